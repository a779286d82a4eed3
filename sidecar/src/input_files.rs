//! The texts of files: those that the input of an execution or a dry run names take the places of the references.
//!
//! The database says which they are, and seals a ticket for each. The storage service opens a ticket and sends the bytes. The
//! address is the operator's, and nothing of it comes from an input.

use std::time::Duration;

use kijko_core::{
    config::Reader,
    db::{Db, DbError},
    jobs::{Failure, HandlerError, Job, Queue},
    outbound::{Client, Limits, OutboundError, StatusCode, Url},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    answers::{self, Refusal},
    api,
    service::SERVICE,
};

/// All files of an input, as the database checks it.
const MAX_BYTES: usize = 2 << 20;

const LIMITS: Limits = Limits {
    connect_timeout: Duration::from_secs(5),
    total_timeout: Duration::from_secs(30),
    idle_timeout: Duration::from_secs(10),
    max_bytes: MAX_BYTES,
};

/// What `private.files_open` says of a file.
#[derive(Debug, Deserialize)]
struct Opened {
    reference: Value,
    ticket: String,
}

/// A reference and what it stands for.
type Text = (Value, String);

/// Reads files.
#[derive(Debug)]
pub struct InputFiles {
    db: Db,
    client: Client,
    /// None: not configured.
    url: Option<Url>,
}

impl InputFiles {
    /// Reads `KIJKO_STORAGE_URL`, the storage service.
    pub(crate) fn url(env: &mut Reader<'_>) -> Option<Url> {
        let example = "the storage service, such as http://127.0.0.1:54339";
        api::address(env, "KIJKO_STORAGE_URL", example)
    }

    /// A reader that asks this address.
    pub fn new(db: Db, url: Option<Url>) -> Result<Self, OutboundError> {
        let client = Client::new(SERVICE, LIMITS)?;
        Ok(Self { db, client, url })
    }

    /// The input of a held job with the texts of its files.
    pub(crate) async fn fill(
        &self,
        queue: &Queue,
        job: &Job,
        input: Value,
    ) -> Result<Value, HandlerError> {
        let opened = queue.begin(|| self.open(queue, job)).await?;
        let mut texts = Vec::new();
        for file in opened.ok_or(HandlerError::Superseded)? {
            let Opened { reference, ticket } =
                file.map_err(|refusal| Failure::permanent(refusal.code, refusal.message))?;
            let text = self.read(named(&reference), &ticket).await?;
            texts.push((reference, text));
        }
        let mut left = MAX_BYTES;
        Ok(filled(input, &texts, &mut left)?)
    }

    async fn open(
        &self,
        queue: &Queue,
        job: &Job,
    ) -> Result<Option<Vec<Result<Opened, Refusal>>>, DbError> {
        let sql = "select private.files_open($1, $2, $3)";
        let answer: Option<Value> = self
            .db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt])
            .await?;
        let files = answer.map(|answer| match answer {
            Value::Array(files) => {
                let files = files.into_iter();
                files
                    .map(|file| answers::read("files_open", file))
                    .collect()
            }
            _ => Err(DbError::Unexpected("the answer of files_open".to_owned())),
        });
        files.transpose()
    }

    /// The text of a file. `path` is for messages.
    pub(crate) async fn read(&self, path: &str, ticket: &str) -> Result<String, Failure> {
        let path_of_file = || path.chars().take(200).collect::<String>();
        let Some(mut url) = self.url.clone() else {
            return Err(unavailable("KIJKO_STORAGE_URL is not set"));
        };
        let ticket_path = format!("{}/ticket", url.path().trim_end_matches('/'));
        url.set_path(&ticket_path);
        let request = self.client.post(url).json(&json!({ "ticket": ticket }));
        let answer = self.client.send(request).await.map_err(unavailable)?;
        match answer.status() {
            StatusCode::OK => {}
            // The object was deleted after the database had made the ticket.
            status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                return Err(Failure::permanent("file_not_found", path_of_file()));
            }
            status => return Err(unavailable(status)),
        }
        match answer.bytes().await {
            Ok(bytes) => {
                text(bytes).ok_or_else(|| Failure::permanent("file_not_text", path_of_file()))
            }
            Err(OutboundError::TooLarge(_)) => Err(too_large()),
            Err(error) => Err(unavailable(error)),
        }
    }
}

/// Whether an input names a file.
pub(crate) fn names_one(input: &Value) -> bool {
    match input {
        Value::Object(members) => members.contains_key("$file") || members.values().any(names_one),
        Value::Array(items) => items.iter().any(names_one),
        _ => false,
    }
}

fn named(reference: &Value) -> &str {
    reference["$file"].as_str().unwrap_or_default()
}

fn too_large() -> Failure {
    let message = format!("files of an input have {MAX_BYTES} bytes at most");
    Failure::permanent("file_too_large", message)
}

/// The log has the cause; it is nothing that the organization could mend.
fn unavailable(cause: impl std::fmt::Display) -> Failure {
    tracing::warn!(%cause, "a file of an input cannot be read");
    Failure::transient(
        "file_unavailable",
        "the storage service cannot be asked for a file",
    )
}

/// UTF-8 without NUL, which nothing in the product can store. The mark in front of some files is no part of the text.
fn text(bytes: Vec<u8>) -> Option<String> {
    let text = String::from_utf8(bytes).ok()?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    (!text.contains('\0')).then(|| text.to_owned())
}

/// References that the database did not name are data, such as of an event.
fn filled(value: Value, texts: &[Text], left: &mut usize) -> Result<Value, Failure> {
    match value {
        Value::Array(items) => items
            .into_iter()
            .map(|item| filled(item, texts, left))
            .collect(),
        Value::Object(members) if members.contains_key("$file") => {
            let object = Value::Object(members);
            let Some((_, text)) = texts.iter().find(|(reference, _)| *reference == object) else {
                return Ok(object);
            };
            *left = left.checked_sub(text.len()).ok_or_else(too_large)?;
            Ok(text.clone().into())
        }
        Value::Object(members) => members
            .into_iter()
            .map(|(name, item)| Ok((name, filled(item, texts, left)?)))
            .collect::<Result<_, _>>()
            .map(Value::Object),
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Vec<Text> {
        vec![
            (json!({ "$file": "a.md" }), "latest".to_owned()),
            (
                json!({ "$file": "a.md", "version": 2 }),
                "second".to_owned(),
            ),
        ]
    }

    #[test]
    fn references_become_texts_wherever_they_are() {
        let input = json!({
            "document": { "$file": "a.md" }, "list": [{ "old": { "version": 2, "$file": "a.md" } }, "a.md"],
        });
        assert!(names_one(&input));
        let expected = json!({ "document": "latest", "list": [{ "old": "second" }, "a.md"] });
        assert_eq!(filled(input, &texts(), &mut 100).unwrap(), expected);
    }

    #[test]
    fn what_the_database_did_not_name_stays_as_it_is() {
        let input =
            json!({ "payload": { "$file": "b.md" }, "other": { "$file": "a.md", "version": 3 } });
        assert_eq!(filled(input.clone(), &texts(), &mut 100).unwrap(), input);
        assert!(!names_one(&json!({ "file": ["$file"] })));
    }

    #[test]
    fn one_file_many_times_is_bounded() {
        let input = json!([{ "$file": "a.md" }, { "$file": "a.md" }]);
        let error = filled(input, &texts(), &mut 11).unwrap_err();
        assert_eq!(error.code, "file_too_large");
    }

    #[test]
    fn only_text_is_text() {
        assert_eq!(text(b"\xef\xbb\xbfa".to_vec()).as_deref(), Some("a"));
        assert_eq!(text(b"\xff\xfe".to_vec()), None);
        assert_eq!(text(b"a\0b".to_vec()), None);
    }
}

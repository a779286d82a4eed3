//! What is read of a verified request: its payload, what the sender calls it, and the headers that say what was sent.

use aws_lc_rs::digest;
use axum::http::{HeaderMap, header};
use kijko_core::db::storable;
use serde_json::{Map, Value};

use super::signature::Verification;

/// Headers that tell what was sent. Whatever verifies the sender is not among them.
const HEADERS: [&str; 18] = [
    "ce-id",
    "ce-source",
    "ce-type",
    "content-type",
    "user-agent",
    "webhook-id",
    "webhook-timestamp",
    "x-event-key",
    "x-event-type",
    "x-github-delivery",
    "x-github-event",
    "x-github-hook-id",
    "x-github-hook-installation-target-id",
    "x-github-hook-installation-target-type",
    "x-gitlab-event",
    "x-request-id",
    "x-shopify-shop-domain",
    "x-shopify-topic",
];

/// The first of these that is there names the event.
const EVENT_HEADERS: [&str; 6] = [
    "x-github-event",
    "x-gitlab-event",
    "x-event-key",
    "x-event-type",
    "x-shopify-topic",
    "ce-type",
];

const MAX_HEADER_BYTES: usize = 500;
const MAX_ID_BYTES: usize = 255;
const MAX_EVENT_BYTES: usize = 100;

/// A request that can be stored.
#[derive(Debug, PartialEq)]
pub(super) struct Delivery {
    /// The payload, as JSON that Postgres can store.
    pub text: String,
    pub headers: Value,
    pub event: Option<String>,
    /// The sender's id, by which a repetition is recognized.
    pub external_id: Option<String>,
    /// SHA-256 of the body as it was sent.
    pub body_hash: String,
}

impl Delivery {
    /// `None` if the body is no JSON, nor a form that has it.
    pub(super) fn read(
        verification: &Verification,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Option<Self> {
        // First: a parser refuses half of a surrogate pair, with which the whole delivery would be lost.
        let text = storable(&payload(headers, body)?).into_owned();
        let payload: Value = serde_json::from_str(&text).ok()?;
        let hash = digest::digest(&digest::SHA256, body);
        Some(Self {
            headers: of_interest(headers),
            event: event(headers, &payload),
            external_id: external_id(verification, headers, &payload)
                .filter(|id| (1..=MAX_ID_BYTES).contains(&id.len())),
            body_hash: hash
                .as_ref()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            text,
        })
    }
}

/// GitHub can send its JSON as the field `payload` of a form.
fn payload(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let form = text(headers, header::CONTENT_TYPE.as_str())
        .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    if form {
        let mut fields = form_urlencoded::parse(body);
        return fields
            .find(|(name, _)| name == "payload")
            .map(|(_, value)| value.into_owned());
    }
    String::from_utf8(body.to_vec()).ok()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn of_interest(headers: &HeaderMap) -> Value {
    let found = HEADERS.into_iter().filter_map(|name| {
        let value = text(headers, name).filter(|value| value.len() <= MAX_HEADER_BYTES)?;
        Some((name.to_owned(), value.into()))
    });
    Value::Object(found.collect::<Map<_, _>>())
}

fn event(headers: &HeaderMap, payload: &Value) -> Option<String> {
    let named = EVENT_HEADERS
        .into_iter()
        .find_map(|name| text(headers, name));
    let event = named.or_else(|| payload.get("type")?.as_str())?;
    (1..=MAX_EVENT_BYTES)
        .contains(&event.len())
        .then(|| event.to_owned())
}

/// An `id` in the payload is that of the event where the form of the payload says so. Elsewhere it may be that of a thing which
/// several events are about.
fn external_id(
    verification: &Verification,
    headers: &HeaderMap,
    payload: &Value,
) -> Option<String> {
    let header = |name| text(headers, name).map(str::to_owned);
    let member = |name| payload.get(name)?.as_str().map(str::to_owned);
    match verification {
        Verification::StandardWebhooks => header("webhook-id"),
        Verification::Github => header("x-github-delivery"),
        Verification::Stripe => member("id"),
        Verification::Hmac { .. } | Verification::Bearer => header("webhook-id")
            .or_else(|| header("x-github-delivery"))
            .or_else(|| {
                // CloudEvents: source and id together are unique.
                let (source, id) = (header("ce-source"), header("ce-id"));
                let (source, id) = source.zip(id).or_else(|| {
                    member("specversion")?;
                    member("source").zip(member("id"))
                })?;
                Some(format!("{source} {id}"))
            }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(verification: Verification, headers: &[(&str, &str)], body: &str) -> Option<Delivery> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                name.parse::<header::HeaderName>().unwrap(),
                value.parse().unwrap(),
            );
        }
        Delivery::read(&verification, &map, body.as_bytes())
    }

    #[test]
    fn nothing_that_verifies_the_sender_is_kept() {
        let headers = [
            ("authorization", "Bearer s"),
            ("x-hub-signature-256", "sha256=00"),
            ("cookie", "a=b"),
            ("x-github-event", "push"),
            ("x-github-delivery", "d-1"),
        ];
        let delivery = read(Verification::Github, &headers, "{}").unwrap();
        assert_eq!(
            delivery.headers,
            json!({"x-github-event": "push", "x-github-delivery": "d-1"})
        );
        assert_eq!(delivery.event.as_deref(), Some("push"));
        assert_eq!(delivery.external_id.as_deref(), Some("d-1"));
    }

    #[test]
    fn a_form_has_json_in_its_field_payload() {
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let delivery = read(
            Verification::Github,
            &form,
            "a=b&payload=%7B%22x%22%3A%221+%2B%22%7D",
        );
        assert_eq!(delivery.unwrap().text, r#"{"x":"1 +"}"#);
        assert_eq!(read(Verification::Github, &form, "a=b"), None);
        assert_eq!(read(Verification::Github, &[], "a=b"), None);
        assert_eq!(read(Verification::Github, &[], ""), None);
    }

    #[test]
    fn a_character_that_cannot_be_stored_loses_no_delivery() {
        let body = r#"{"nul":"a\u0000b","half":"\ud83dx","pair":"\ud83d\ude00","text":"\\ud83d"}"#;
        let stored =
            r#"{"nul":"a\ufffdb","half":"\ufffdx","pair":"\ud83d\ude00","text":"\\ud83d"}"#;
        assert_eq!(read(Verification::Github, &[], body).unwrap().text, stored);
    }

    #[test]
    fn the_id_of_a_thing_is_not_that_of_an_event() {
        let id = |verification, headers: &[(&str, &str)], body| {
            read(verification, headers, body).unwrap().external_id
        };
        let hmac = || Verification::Hmac {
            header: "X-Signature".into(),
        };
        assert_eq!(id(hmac(), &[], r#"{"id":"order-1"}"#), None);
        let cloud_event = r#"{"specversion":"1.0","source":"/a","id":"1"}"#;
        assert_eq!(id(hmac(), &[], cloud_event).as_deref(), Some("/a 1"));
        let binary = [("ce-source", "/a"), ("ce-id", "2")];
        assert_eq!(id(hmac(), &binary, "{}").as_deref(), Some("/a 2"));
        assert_eq!(
            id(Verification::Stripe, &[], r#"{"id":"evt_1"}"#).as_deref(),
            Some("evt_1")
        );
        assert_eq!(id(Verification::Stripe, &[], "[1]"), None);
        let long = "x".repeat(256);
        assert_eq!(
            id(Verification::Github, &[("x-github-delivery", &long)], "{}"),
            None
        );
    }
}

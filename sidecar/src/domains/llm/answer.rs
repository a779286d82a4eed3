//! Answers in OpenAI's shapes: a whole completion, and the chunks of a stream.

use axum::body::Bytes;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{error::ApiError, reader::Reader};
use crate::llm::{LlmError, Usage, malformed};

/// The last event of a stream that came to its end.
pub(super) const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// What an answer says of itself.
#[derive(Debug, Clone)]
pub(super) struct Heading {
    pub id: String,
    pub created: u64,
    pub model: String,
}

impl Heading {
    /// The id of the answer is the id of the call in `llm_calls`.
    pub(super) fn new(call: Uuid, model: &str) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            id: format!("chatcmpl-{}", call.simple()),
            created: now.map_or(0, |now| now.as_secs()),
            model: model.to_owned(),
        }
    }

    fn members(&self, object: &str) -> Map<String, Value> {
        let mut members = Map::new();
        members.insert("id".to_owned(), json!(self.id));
        members.insert("object".to_owned(), json!(object));
        members.insert("created".to_owned(), json!(self.created));
        members.insert("model".to_owned(), json!(self.model));
        members
    }

    /// A chunk of a stream. Who asked for usage gets the member in every chunk.
    pub(super) fn chunk(&self, reader: &Reader, choices: Vec<Value>, with_usage: bool) -> Bytes {
        let mut chunk = self.members("chat.completion.chunk");
        chunk.extend(reader.extra.clone());
        chunk.insert("choices".to_owned(), Value::Array(choices));
        if with_usage {
            chunk.insert("usage".to_owned(), Value::Null);
        }
        event(&Value::Object(chunk))
    }

    /// The chunk after the last choice, for who asked for it.
    pub(super) fn usage_chunk(&self, reader: &Reader, usage: Value) -> Bytes {
        let mut chunk = self.members("chat.completion.chunk");
        chunk.extend(reader.extra.clone());
        chunk.insert("choices".to_owned(), json!([]));
        chunk.insert("usage".to_owned(), usage);
        event(&Value::Object(chunk))
    }

    /// A whole answer.
    pub(super) fn completion(&self, reader: &Reader, choices: Vec<Value>, usage: Value) -> Value {
        let mut whole = self.members("chat.completion");
        whole.insert("choices".to_owned(), Value::Array(choices));
        whole.insert("usage".to_owned(), usage);
        whole.extend(reader.extra.clone());
        Value::Object(whole)
    }

    /// A whole answer of a server that speaks OpenAI's API, with our id.
    pub(super) fn of_openai(&self, answer: Value, usage: Value) -> Result<Value, LlmError> {
        let Value::Object(mut answer) = answer else {
            return Err(malformed());
        };
        let choices = answer.get("choices").and_then(Value::as_array);
        if choices.is_none_or(Vec::is_empty) {
            return Err(malformed());
        }
        for (name, value) in self.members("chat.completion") {
            let keep = matches!(name.as_str(), "created" | "model") && answer.contains_key(&name);
            if !keep {
                answer.insert(name, value);
            }
        }
        answer.insert("usage".to_owned(), usage);
        Ok(Value::Object(answer))
    }
}

/// The usage as OpenAI writes it; the vendor's own words if it speaks the same.
pub(super) fn usage(usage: &Usage, reported: Option<&Value>) -> Value {
    if let Some(reported) = reported {
        return reported.clone();
    }
    json!({
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    })
}

/// One event of a stream.
pub(super) fn event(data: &Value) -> Bytes {
    Bytes::from(format!("data: {data}\n\n"))
}

/// The last event of a stream that failed.
pub(super) fn error_event(error: &ApiError) -> Bytes {
    event(&error.body())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::Vendor;

    fn heading() -> Heading {
        Heading {
            id: "chatcmpl-1".to_owned(),
            created: 7,
            model: "m".to_owned(),
        }
    }

    #[test]
    fn usage_is_in_chunks_for_who_asked_only() {
        let reader = Reader::new(Vendor::OpenAi);
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!(
            text(heading().chunk(&reader, vec![], false)),
            "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":7,\"model\":\"m\",\"choices\":[]}\n\n"
        );
        assert!(text(heading().chunk(&reader, vec![], true)).contains("\"usage\":null"));
    }

    #[test]
    fn an_answer_of_openai_keeps_its_own_members() {
        let given = json!({"id": "theirs", "model": "gpt-4o-2024-08-06", "created": 1, "choices": [{"index": 0}], "system_fingerprint": "fp"});
        let whole = heading().of_openai(given, json!({})).unwrap();
        assert_eq!(whole["id"], "chatcmpl-1");
        assert_eq!(whole["object"], "chat.completion");
        assert_eq!(
            (&whole["model"], &whole["created"]),
            (&json!("gpt-4o-2024-08-06"), &json!(1))
        );
        assert_eq!(whole["system_fingerprint"], "fp");
        for bad in [json!([]), json!({}), json!({"choices": []})] {
            assert!(heading().of_openai(bad, json!({})).is_err());
        }
    }
}

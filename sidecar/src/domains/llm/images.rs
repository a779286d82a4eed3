//! Images, of OpenAI and of servers that speak its API.

use serde_json::{Map, Value, json};

use super::{
    chat::{model, number, object},
    error::ApiError,
    estimate, fields,
    fields::list,
};
use crate::llm::{LlmError, Usage, Vendor, malformed};

/// OpenAI's limit.
const MAX_IMAGES: u64 = 10;

/// A request.
pub(super) struct Images {
    body: Map<String, Value>,
    pub model: String,
    pub count: u64,
    pub input_tokens: u64,
    pub unlisted: Vec<String>,
}

impl Images {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ApiError> {
        let body = object(bytes)?;
        let prompt = body.get("prompt").and_then(Value::as_str);
        let prompt = prompt.ok_or_else(|| ApiError::invalid("prompt", "prompt is a text"))?;
        if body.get("stream") == Some(&Value::Bool(true)) {
            let message = "images are not streamed";
            return Err(ApiError::unsupported("stream", message));
        }
        Ok(Self {
            model: model(&body)?,
            count: number(&body, "n", MAX_IMAGES)?.unwrap_or(1),
            input_tokens: estimate::text(prompt),
            unlisted: fields::unlisted_in_images(&body),
            body,
        })
    }

    pub(super) fn prompt(&self) -> &Value {
        &self.body["prompt"]
    }

    pub(super) fn body(&self, vendor: Vendor, model: &str) -> Result<Map<String, Value>, ApiError> {
        if vendor != Vendor::OpenAi {
            let message = "images come from OpenAI and servers with its API only";
            return Err(ApiError::unsupported("model", message));
        }
        let mut body = self.body.clone();
        body.insert("model".to_owned(), json!(model));
        Ok(body)
    }
}

/// How many images an answer has. OpenAI's newer models count tokens as well, by other names than elsewhere.
pub(super) fn count(answer: &Value, usage: &mut Usage) -> Result<u64, LlmError> {
    let images = list(answer.get("data")).len() as u64;
    if images == 0 {
        return Err(malformed());
    }
    let counted = |path: &str| answer.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    usage.input = usage.input.max(counted("/usage/input_tokens"));
    usage.output = usage.output.max(counted("/usage/output_tokens"));
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_and_its_answer() {
        let read = |body: Value| Images::read(body.to_string().as_bytes());
        let images = read(json!({"model": "m", "prompt": "a cat", "n": 2})).unwrap();
        assert_eq!(images.count, 2);
        let body = images.body(Vendor::OpenAi, "gpt-image-1").unwrap();
        assert_eq!(
            (&body["model"], &body["n"]),
            (&json!("gpt-image-1"), &json!(2))
        );
        assert!(images.body(Vendor::Gemini, "m").is_err());
        for (body, param) in [
            (json!({"model": "m"}), "prompt"),
            (json!({"model": "m", "prompt": "a", "n": 11}), "n"),
            (
                json!({"model": "m", "prompt": "a", "stream": true}),
                "stream",
            ),
        ] {
            assert_eq!(read(body).err().unwrap().param, Some(param));
        }
        let mut usage = Usage::default();
        let answer =
            json!({"data": [{"b64_json": ""}], "usage": {"input_tokens": 5, "output_tokens": 7}});
        assert_eq!(count(&answer, &mut usage).unwrap(), 1);
        assert_eq!((usage.input, usage.output), (5, 7));
        assert!(count(&json!({}), &mut usage).is_err());
    }
}

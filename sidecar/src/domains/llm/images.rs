//! Images, of OpenAI, of servers that speak its API, and of Gemini.

use std::time::{SystemTime, UNIX_EPOCH};

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
        match vendor {
            Vendor::OpenAi => {
                let mut body = self.body.clone();
                body.insert("model".to_owned(), json!(model));
                Ok(body)
            }
            Vendor::Gemini => self.for_gemini(),
            Vendor::Anthropic => Err(ApiError::unsupported("model", "Anthropic has no images")),
        }
    }

    /// Gemini's image models answer as in a conversation, with one image.
    fn for_gemini(&self) -> Result<Map<String, Value>, ApiError> {
        if self.count > 1 {
            return Err(ApiError::unsupported(
                "n",
                "Gemini makes one image at a time",
            ));
        }
        let mut config = json!({"responseModalities": ["IMAGE"]});
        if let Some(size) = self.body.get("size").filter(|size| *size != "auto") {
            let ratio = size.as_str().and_then(aspect_ratio).ok_or_else(|| {
                ApiError::unsupported("size", "Gemini has no images of this aspect ratio")
            })?;
            config["imageConfig"] = json!({"aspectRatio": ratio});
        }
        let contents = json!([{"role": "user", "parts": [{"text": self.prompt()}]}]);
        let members = [("contents", contents), ("generationConfig", config)];
        Ok(members
            .map(|(name, it)| (name.to_owned(), it))
            .into_iter()
            .collect())
    }
}

/// `1536x1024` is `3:2`; `None` for what Gemini does not make.
fn aspect_ratio(size: &str) -> Option<&'static str> {
    const RATIOS: [(&str, u64, u64); 10] = [
        ("1:1", 1, 1),
        ("2:3", 2, 3),
        ("3:2", 3, 2),
        ("3:4", 3, 4),
        ("4:3", 4, 3),
        ("4:5", 4, 5),
        ("5:4", 5, 4),
        ("9:16", 9, 16),
        ("16:9", 16, 9),
        ("21:9", 21, 9),
    ];
    let (width, height) = size.split_once('x')?;
    let (width, height) = (width.parse::<u64>().ok()?, height.parse::<u64>().ok()?);
    let is_ratio = |wide: u64, high: u64| {
        let (one, other) = (width.checked_mul(high), height.checked_mul(wide));
        one.is_some_and(|it| it > 0) && one == other
    };
    let mut ratios = RATIOS.into_iter();
    let found = ratios.find(|(_, wide, high)| is_ratio(*wide, *high));
    found.map(|(name, ..)| name)
}

/// The answer in OpenAI's shape.
pub(super) fn answer(vendor: Vendor, answer: Value) -> Value {
    if vendor != Vendor::Gemini {
        return answer;
    }
    let parts = list(answer.get("candidates"))
        .iter()
        .flat_map(|candidate| list(candidate.pointer("/content/parts")));
    let images = parts.filter_map(|part| part.get("inlineData")?.get("data"));
    let data: Vec<Value> = images.map(|data| json!({"b64_json": data})).collect();
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    json!({"created": since_1970.map_or(0, |it| it.as_secs()), "data": data})
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
        assert!(images.body(Vendor::Gemini, "m").is_err(), "one at a time");
        assert!(images.body(Vendor::Anthropic, "m").is_err());
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

    #[test]
    fn gemini_has_a_ratio_and_an_inline_image() {
        let read = |size: &str| {
            let body = json!({"model": "m", "prompt": "a cat", "size": size});
            Images::read(body.to_string().as_bytes()).unwrap()
        };
        let body = |size| read(size).body(Vendor::Gemini, "m");
        let config =
            json!({"responseModalities": ["IMAGE"], "imageConfig": {"aspectRatio": "3:2"}});
        assert_eq!(body("1536x1024").unwrap()["generationConfig"], config);
        let config = json!({"responseModalities": ["IMAGE"]});
        assert_eq!(body("auto").unwrap()["generationConfig"], config);
        for size in ["1792x1024", "0x0", "x", "99999999999999999999x1"] {
            assert_eq!(body(size).err().unwrap().param, Some("size"), "{size}");
        }
        let given = json!({"candidates": [{"content": {"parts": [
            {"text": "Here it is."}, {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
        ]}}]});
        let whole = answer(Vendor::Gemini, given);
        assert_eq!(whole["data"], json!([{"b64_json": "AAAA"}]));
        let none = answer(
            Vendor::Gemini,
            json!({"promptFeedback": {"blockReason": "SAFETY"}}),
        );
        assert!(count(&none, &mut Usage::default()).is_err());
    }
}

//! Embeddings. OpenAI's clients ask for base64 unless told otherwise: little-endian floats of 32 bits.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{
    answer::usage,
    chat::{model, number, object},
    error::ApiError,
    estimate, fields,
    fields::list,
    reader::Reader,
};
use crate::llm::{LlmError, Usage, Vendor, malformed};

/// A request.
pub(super) struct Embeddings {
    body: Map<String, Value>,
    pub model: String,
    base64: bool,
    pub input_tokens: u64,
    pub unlisted: Vec<String>,
}

impl Embeddings {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ApiError> {
        let body = object(bytes)?;
        let input = body.get("input").unwrap_or(&Value::Null);
        let empty = matches!(input, Value::Array(items) if items.is_empty());
        if empty || !(input.is_string() || input.is_array()) {
            return Err(ApiError::invalid(
                "input",
                "input is a text or a list that is not empty",
            ));
        }
        let base64 = match body.get("encoding_format").map(Value::as_str) {
            None | Some(Some("float")) => false,
            Some(Some("base64")) => true,
            Some(_) => {
                let message = "encoding_format is float or base64";
                return Err(ApiError::invalid("encoding_format", message));
            }
        };
        number(&body, "dimensions", 1_000_000)?;
        Ok(Self {
            model: model(&body)?,
            base64,
            input_tokens: estimate::embeddings(input),
            unlisted: fields::unlisted_in_embeddings(&body),
            body,
        })
    }

    /// As the caller gets them.
    pub(super) fn encoding_format(&self) -> &'static str {
        if self.base64 { "base64" } else { "float" }
    }

    pub(super) fn input(&self) -> &Value {
        &self.body["input"]
    }

    /// The body for a vendor. Floats are asked for: not every server knows base64.
    pub(super) fn body(&self, vendor: Vendor, model: &str) -> Result<Map<String, Value>, ApiError> {
        match vendor {
            Vendor::OpenAi => {
                let mut body = self.body.clone();
                body.insert("model".to_owned(), json!(model));
                if self.base64 {
                    body.remove("encoding_format");
                }
                Ok(body)
            }
            Vendor::Gemini => self.for_gemini(model),
            Vendor::Anthropic => Err(ApiError::unsupported(
                "model",
                "Anthropic has no embeddings",
            )),
        }
    }

    fn for_gemini(&self, model: &str) -> Result<Map<String, Value>, ApiError> {
        let texts = match self.input() {
            Value::Array(items) => items.iter().collect(),
            one => vec![one],
        };
        let name = format!("models/{model}");
        let requests = texts.into_iter().map(|text| {
            let text = text.as_str().ok_or_else(|| {
                ApiError::unsupported("input", "Gemini takes texts and no numbers of tokens")
            })?;
            let content = json!({"parts": [{"text": text}]});
            let mut request = json!({"model": name, "content": content});
            if let Some(dimensions) = self.body.get("dimensions") {
                request["outputDimensionality"] = dimensions.clone();
            }
            Ok(request)
        });
        let requests: Result<Vec<_>, ApiError> = requests.collect();
        let mut body = Map::new();
        body.insert("requests".to_owned(), Value::Array(requests?));
        Ok(body)
    }

    /// The answer in OpenAI's shape, in the encoding that was asked for.
    pub(super) fn answer(
        &self,
        vendor: Vendor,
        answer: &Value,
        model: &str,
        reader: &Reader,
    ) -> Result<Value, LlmError> {
        let vectors: Vec<&Value> = match vendor {
            Vendor::Gemini => {
                let found = list(answer.get("embeddings")).iter();
                found.filter_map(|it| it.get("values")).collect()
            }
            _ => {
                let mut data: Vec<_> = list(answer.get("data")).iter().collect();
                data.sort_by_key(|it| it["index"].as_u64());
                data.into_iter()
                    .filter_map(|it| it.get("embedding"))
                    .collect()
            }
        };
        if vectors.is_empty() {
            return Err(malformed());
        }
        let vectors = vectors.into_iter().enumerate().map(|(index, vector)| {
            let embedding = self.encode(vector).ok_or_else(malformed)?;
            Ok(json!({"object": "embedding", "index": index, "embedding": embedding}))
        });
        let data = vectors.collect::<Result<Vec<_>, LlmError>>()?;
        // Gemini counts nothing here.
        let counted = match reader.usage.is_empty() {
            true => Usage::new(self.input_tokens, 0),
            false => reader.usage,
        };
        let mut usage = usage(&counted, None);
        if let Some(members) = usage.as_object_mut() {
            members.retain(|name, _| matches!(name.as_str(), "prompt_tokens" | "total_tokens"));
        }
        let model = reader.model.as_deref().unwrap_or(model);
        Ok(json!({"object": "list", "data": data, "model": model, "usage": usage}))
    }

    fn encode(&self, vector: &Value) -> Option<Value> {
        match (vector, self.base64) {
            (Value::String(_), true) | (Value::Array(_), false) => Some(vector.clone()),
            (Value::Array(numbers), true) => {
                let mut bytes = Vec::with_capacity(numbers.len() * 4);
                for number in numbers {
                    let number = number.as_f64()? as f32;
                    bytes.extend_from_slice(&number.to_le_bytes());
                }
                Some(json!(STANDARD.encode(bytes)))
            }
            (Value::String(text), false) => {
                let bytes = STANDARD.decode(text).ok()?;
                let numbers = bytes.chunks_exact(4);
                let numbers = numbers.map(|it| f32::from_le_bytes([it[0], it[1], it[2], it[3]]));
                Some(numbers.map(|number| json!(number)).collect())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: Value) -> Result<Embeddings, ApiError> {
        let mut body = json!({"model": "alias", "input": ["a", "b"]});
        let object = body.as_object_mut().unwrap();
        object.extend(more.as_object().unwrap().clone());
        Embeddings::read(body.to_string().as_bytes())
    }

    fn answer(asked: &Value, vendor: Vendor, given: &Value) -> Value {
        let request = read(asked.clone()).unwrap();
        let mut reader = Reader::new(vendor);
        crate::llm::read_usage(vendor, given, &mut reader.usage);
        request.answer(vendor, given, "m", &reader).unwrap()
    }

    #[test]
    fn both_encodings_of_both_servers() {
        let floats = json!({"data": [{"index": 1, "embedding": [0.5, -1.0]}, {"index": 0, "embedding": [1, 2]}], "usage": {"prompt_tokens": 4, "total_tokens": 4}});
        let base64 = |numbers: [f32; 2]| {
            let bytes: Vec<u8> = numbers.iter().flat_map(|it| it.to_le_bytes()).collect();
            json!(STANDARD.encode(bytes))
        };
        let encoded = json!({"data": [{"index": 0, "embedding": base64([1.0, 2.0])}]});
        let asked = json!({"encoding_format": "base64"});
        let whole = answer(&asked, Vendor::OpenAi, &floats);
        assert_eq!(whole["data"][0]["embedding"], base64([1.0, 2.0]));
        assert_eq!(whole["data"][1]["embedding"], base64([0.5, -1.0]));
        assert_eq!(
            whole["usage"],
            json!({"prompt_tokens": 4, "total_tokens": 4})
        );
        let whole = answer(&asked, Vendor::OpenAi, &encoded);
        assert_eq!(whole["data"][0]["embedding"], base64([1.0, 2.0]));
        let whole = answer(&json!({}), Vendor::OpenAi, &encoded);
        assert_eq!(whole["data"][0]["embedding"], json!([1.0, 2.0]));
        assert_eq!(
            (&whole["object"], &whole["model"]),
            (&json!("list"), &json!("m"))
        );
    }

    #[test]
    fn gemini_has_a_request_for_each_text() {
        let request = read(json!({"dimensions": 64})).unwrap();
        let body = request
            .body(Vendor::Gemini, "gemini-embedding-001")
            .unwrap();
        assert_eq!(
            body["requests"][1],
            json!({"model": "models/gemini-embedding-001", "content": {"parts": [{"text": "b"}]}, "outputDimensionality": 64})
        );
        let given = json!({"embeddings": [{"values": [1.0]}, {"values": [2.0]}]});
        let whole = answer(&json!({}), Vendor::Gemini, &given);
        assert_eq!(whole["data"][1]["embedding"], json!([2.0]));
        assert!(whole["usage"]["prompt_tokens"].as_u64().unwrap() > 0);
        let tokens = read(json!({"input": [[1, 2]]})).unwrap();
        assert!(tokens.body(Vendor::Gemini, "m").is_err());
        assert!(tokens.body(Vendor::Anthropic, "m").is_err());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (more, param) in [
            (json!({"input": []}), "input"),
            (json!({"input": null}), "input"),
            (json!({"encoding_format": "int8"}), "encoding_format"),
            (json!({"dimensions": 0}), "dimensions"),
        ] {
            let error = read(more).err().unwrap();
            assert_eq!(error.param, Some(param));
        }
    }
}

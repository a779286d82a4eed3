//! Answers of database functions: what was asked for, or why not. By what an answer has, and not by what fits: one that cannot be read
//! is an error, and never taken for the other.

use kijko_core::db::DbError;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// Why not, for the organization.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Refusal {
    /// Short name.
    #[serde(rename = "refused")]
    pub code: String,
    /// In words.
    #[serde(default)]
    pub message: String,
}

/// Reads the answer of a function, if there is one. Nothing of it is repeated: it may have a secret.
pub(crate) fn read_some<T: DeserializeOwned>(
    function: &str,
    answer: Option<Value>,
) -> Result<Option<Result<T, Refusal>>, DbError> {
    answer.map(|answer| read(function, answer)).transpose()
}

/// Reads the answer of a function.
pub(crate) fn read<T: DeserializeOwned>(
    function: &str,
    answer: Value,
) -> Result<Result<T, Refusal>, DbError> {
    let read = match answer.get("refused") {
        Some(_) => serde_json::from_value(answer).map(Err),
        None => serde_json::from_value(answer).map(Ok),
    };
    read.map_err(|_| DbError::Unexpected(format!("the answer of {function}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Given {
        id: u8,
    }

    #[test]
    fn an_answer_is_one_of_two() {
        let read = |answer| read::<Given>("f", answer).map_err(|error| error.to_string());
        assert_eq!(read(json!({"id": 7})), Ok(Ok(Given { id: 7 })));
        let refusal = Refusal {
            code: "gone".to_owned(),
            message: String::new(),
        };
        assert_eq!(read(json!({"refused": "gone", "id": 7})), Ok(Err(refusal)));
        for answer in [json!({}), json!({"id": "secret"}), json!({"refused": 1})] {
            let error = read(answer).unwrap_err();
            assert!(error.contains("f") && !error.contains("secret"), "{error}");
        }
    }
}

//! JSON in which every object has each member once. Parsers disagree about which of two members counts, so a token with both
//! could mean one thing here and another elsewhere. Free of Postgres.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::claims;

/// The object in these bytes, if that is all they are and jsonb can hold it.
pub fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(bytes) {
        Ok(Strict(value)) if claims::storable(&value) => match value {
            Value::Object(members) => Some(members),
            _ => None,
        },
        _ => None,
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Strict(value))) = members.next_entry::<String, _>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a member twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod unit {
    use serde_json::json;

    use super::object;

    #[test]
    fn every_member_once() {
        let good = br#" {"a": [1, -2, 2.5, "x", true, null, {"a": {}}], "b": {"a": 1}} "#;
        assert_eq!(
            object(good).map(Into::into),
            Some(json!({"a": [1, -2, 2.5, "x", true, null, {"a": {}}], "b": {"a": 1}}))
        );
        for bad in [
            &br#"{"a": 1, "a": 1}"#[..],
            br#"{"a": 1, "\u0061": 2}"#,
            br#"{"a": {"b": 1, "b": 2}}"#,
            br#"{"a": [{"b": 1, "b": 2}]}"#,
            br#"{"a": 1} {}"#,
            br#"{"a": 1}x"#,
            br#"{"a": 1,}"#,
            br#"{"a": 1e999}"#,
            br#"{"a": NaN}"#,
            br#"{"a": 01}"#,
            br#"{'a': 1}"#,
            br#"{"a": "\u0000"}"#,
            br#"{"a": "\ud800"}"#,
            b"{\"a\": \"\xff\"}",
            b"\xef\xbb\xbf{}",
            b"[]",
            b"null",
            b"",
        ] {
            assert!(object(bad).is_none(), "{}", String::from_utf8_lossy(bad));
        }
        let deep = format!("{{\"a\": {}{}}}", "[".repeat(5000), "]".repeat(5000));
        assert!(object(deep.as_bytes()).is_none());
    }
}

//! JSON values as templates see them. The template engine computes with 128-bit integers and floating-point numbers, and formats
//! them itself: 1.10 becomes 1.1. So the digits of the input are kept beside its numbers. A number that no floating-point number
//! represents exactly has a type of its own.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use minijinja::{
    Error, ErrorKind, Value,
    value::{DynObject, Object, ObjectRepr, ValueKind},
};
use serde_json::{Map, Number, Value as Json};

/// The variables: each member of the input, and the whole as `input`; and how its fractions were written.
pub(super) fn context(input: &Json) -> (Value, Written) {
    let mut written = Written::default();
    let mut variables: BTreeMap<String, Value> = input
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), to_value(value, &mut written)))
        .collect();
    variables.insert("input".to_owned(), to_value(input, &mut written));
    (Value::from(variables), written)
}

fn to_value(json: &Json, written: &mut Written) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(truth) => Value::from(*truth),
        Json::Number(number) => number_value(number.to_string(), written),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::from(
            items
                .iter()
                .map(|item| to_value(item, written))
                .collect::<Vec<_>>(),
        ),
        Json::Object(members) => Value::from(
            members
                .iter()
                .map(|(name, value)| (name.clone(), to_value(value, written)))
                .collect::<BTreeMap<_, _>>(),
        ),
    }
}

fn number_value(digits: String, written: &mut Written) -> Value {
    let whole = digits.parse::<i64>().map(Value::from).or_else(|_| {
        digits
            .parse::<i128>()
            .map(Value::from)
            .or_else(|_| digits.parse::<u128>().map(Value::from))
    });
    if let Ok(value) = whole {
        return value;
    }
    match digits.parse::<f64>() {
        Ok(fraction) if holds(fraction, &digits) => {
            written.note(fraction, digits);
            Value::from(fraction)
        }
        _ => Value::from_object(Digits(digits)),
    }
}

/// Whether this float represents the number exactly: its shortest decimal differs only in trailing zeros.
fn holds(fraction: f64, digits: &str) -> bool {
    let bare = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    fraction.is_finite() && bare(&fraction.to_string()) == bare(digits)
}

/// How the input's fractions were written. A fraction that the input writes in two ways gets the engine's format.
#[derive(Debug, Clone, Default)]
pub(super) struct Written(HashMap<u64, Option<String>>);

impl Written {
    fn note(&mut self, fraction: f64, digits: String) {
        self.0
            .entry(fraction.to_bits())
            .and_modify(|known| {
                if known.as_deref() != Some(&digits) {
                    *known = None;
                }
            })
            .or_insert(Some(digits));
    }

    /// The digits of a fraction that the input has.
    pub(super) fn digits(&self, value: &Value) -> Option<&str> {
        if value.kind() != ValueKind::Number || value.is_integer() {
            return None;
        }
        let fraction = f64::try_from(value.clone()).ok()?;
        self.0.get(&fraction.to_bits())?.as_deref()
    }
}

/// A number that no floating-point number represents exactly, as it was written.
#[derive(Debug)]
pub(super) struct Digits(String);

impl Digits {
    /// The number that comes closest, to compute with.
    pub(super) fn nearest(&self) -> f64 {
        self.0.parse().unwrap_or(f64::NAN)
    }
}

impl Object for Digits {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        self.nearest() != 0.0
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        let other = other.downcast_ref::<Self>()?;
        self.nearest().partial_cmp(&other.nearest())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether it is a number of either type.
pub(super) fn is_number(value: &Value) -> bool {
    value.kind() == ValueKind::Number || value.downcast_object_ref::<Digits>().is_some()
}

/// The value with the nearest number in place of exact digits, for filters that calculate.
pub(super) fn computable(value: &Value) -> Value {
    value
        .downcast_object_ref::<Digits>()
        .map_or_else(|| value.clone(), |digits| Value::from(digits.nearest()))
}

/// Back to JSON; the digits stay.
pub(super) fn to_json(value: &Value, written: &Written) -> Result<Json, Error> {
    if let Some(digits) = value.downcast_object_ref::<Digits>() {
        return Ok(number_json(&digits.0));
    }
    Ok(match value.kind() {
        ValueKind::Undefined | ValueKind::None => Json::Null,
        ValueKind::Bool => Json::Bool(value.is_true()),
        ValueKind::Number => match written.digits(value) {
            Some(digits) => number_json(digits),
            None => number_json(&value.to_string()),
        },
        ValueKind::Map => {
            let mut members = Map::new();
            for key in value.try_iter()? {
                let member = value.get_item(&key)?;
                members.insert(key.to_string(), to_json(&member, written)?);
            }
            Json::Object(members)
        }
        ValueKind::Seq | ValueKind::Iterable => Json::Array(
            value
                .try_iter()?
                .map(|item| to_json(&item, written))
                .collect::<Result<_, _>>()?,
        ),
        ValueKind::Invalid => {
            return Err(Error::new(ErrorKind::InvalidOperation, value.to_string()));
        }
        _ => Json::String(value.to_string()),
    })
}

/// Null for values that are no number in JSON, such as infinity.
fn number_json(digits: &str) -> Json {
    digits.parse::<Number>().map_or(Json::Null, Json::Number)
}

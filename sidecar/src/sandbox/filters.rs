//! Filters for prompts, which are plain text and JSON and never HTML. Filters that would escape do nothing; lists and objects are
//! written as JSON with their original digits.

use std::sync::Arc;

use minijinja::{
    Environment, Error, ErrorKind, State, Value, filters,
    value::{Kwargs, StringInput, ValueKind},
};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use super::value::{Written, computable, is_number, to_json};

/// Replaces the engine's own filters of these names.
pub(super) fn add_to(environment: &mut Environment<'_>, written: Written) {
    let written = Arc::new(written);
    let known = written.clone();
    environment.set_formatter(move |out, state, value| match plain(value, &known)? {
        Some(text) => out.write_str(&text).map_err(Error::from),
        None => minijinja::escape_formatter(out, state, value),
    });
    let known = written.clone();
    environment.add_filter("string", move |state: &State, value: Value| {
        match plain(&value, &known)? {
            Some(text) => Ok(Value::from(text)),
            None => filters::string(state, &value),
        }
    });
    let known = written.clone();
    environment.add_filter(
        "join",
        move |state: &mut State,
              items: Value,
              between: Option<StringInput<'_>>,
              attribute: Option<&str>,
              kwargs: Kwargs| {
            let items = if attribute.is_none() && !kwargs.has("attribute") {
                texts(items, &known)?
            } else {
                items
            };
            filters::join(state, &items, between, attribute, kwargs)
        },
    );
    let known = written.clone();
    environment.add_filter(
        "tojson",
        move |value: &Value, indent: Option<Value>, kwargs: Kwargs| {
            tojson(value, indent, &kwargs, &known)
        },
    );
    environment.add_filter("pprint", move |value: Value| pretty(value, &written));
    for name in ["escape", "e", "safe"] {
        environment.add_filter(name, |value: Value| value);
    }
    environment.add_filter("abs", |value: Value| filters::abs(computable(&value)));
    environment.add_filter("float", float);
    environment.add_filter("int", int);
    environment.add_filter("round", round);
    environment.add_test("number", |value: Value| is_number(&value));
}

/// Where the output differs from the engine's: lists and objects are JSON, fractions keep their original digits.
fn plain(value: &Value, written: &Written) -> Result<Option<String>, Error> {
    match value.kind() {
        ValueKind::Map | ValueKind::Seq | ValueKind::Iterable => {
            serialize(value, written, Spaced).map(Some)
        }
        _ => Ok(written.digits(value).map(str::to_owned)),
    }
}

/// The items with their texts in place of values that the engine would format differently.
fn texts(items: Value, written: &Written) -> Result<Value, Error> {
    if !matches!(items.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Ok(items);
    }
    let mut texts = Vec::new();
    for item in items.try_iter()? {
        texts.push(plain(&item, written)?.map_or(item, Value::from));
    }
    Ok(Value::from(texts))
}

fn tojson(
    value: &Value,
    indent: Option<Value>,
    kwargs: &Kwargs,
    written: &Written,
) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let indent = match indent {
        Some(indent) => Some(indent),
        None => kwargs.get("indent")?,
    };
    kwargs.assert_all_used()?;
    let width = match indent {
        None => None,
        Some(indent) if indent.kind() == ValueKind::Bool => indent.is_true().then_some(2),
        Some(indent) => Some(usize::try_from(indent)?.min(16)),
    };
    match width {
        None => serialize(value, written, Spaced),
        Some(width) => {
            let indent = " ".repeat(width);
            serialize(
                value,
                written,
                PrettyFormatter::with_indent(indent.as_bytes()),
            )
        }
    }
}

/// The engine's own filter formats values for programmers.
fn pretty(value: Value, written: &Written) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Map | ValueKind::Seq | ValueKind::Iterable => {
            serialize(&value, written, PrettyFormatter::new()).map(Value::from)
        }
        _ => Ok(value),
    }
}

fn serialize(value: &Value, written: &Written, formatter: impl Formatter) -> Result<String, Error> {
    let failed =
        |error: &dyn std::error::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    let mut bytes = Vec::new();
    to_json(value, written)?
        .serialize(&mut Serializer::with_formatter(&mut bytes, formatter))
        .map_err(|error| failed(&error))?;
    String::from_utf8(bytes).map_err(|error| failed(&error))
}

/// One line, with a blank after each comma and colon, as people and models are used to.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

fn float(
    state: &State,
    value: Value,
    default: Option<Value>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    filters::float(state, &computable(&value), default, kwargs)
}

fn int(
    state: &State,
    value: Value,
    default: Option<Value>,
    base: Option<u32>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    filters::int(state, &computable(&value), default, base, kwargs)
}

fn round(
    value: Value,
    precision: Option<i32>,
    method: Option<&str>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    filters::round(computable(&value), precision, method, kwargs)
}

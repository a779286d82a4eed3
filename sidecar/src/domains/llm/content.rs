//! Content of messages: a text, or a list of parts.

use serde_json::Value;

use super::error::ApiError;

/// Images whose tokens are bounded. A video or a document sent as an image is billed by its length.
const IMAGES: [(&str, &str); 5] = [
    ("image/gif", "image/gif"),
    ("image/jpeg", "image/jpeg"),
    ("image/jpg", "image/jpeg"),
    ("image/png", "image/png"),
    ("image/webp", "image/webp"),
];

/// A part of a message that every vendor has a form for.
#[derive(Debug, PartialEq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    Image(Source<'a>),
    File(Source<'a>),
}

/// Where bytes are.
#[derive(Debug, PartialEq)]
pub(super) enum Source<'a> {
    Data { mime: &'a str, base64: &'a str },
    Url(&'a str),
}

/// The parts of a message's content. Empty texts are left out: vendors refuse them.
pub(super) fn parts(message: &Value) -> Result<Vec<Part<'_>>, ApiError> {
    match message.get("content") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(texts(text).collect()),
        Some(Value::Array(parts)) => {
            let parts: Result<Vec<_>, _> = parts.iter().map(part).collect();
            Ok(parts?.into_iter().flatten().collect())
        }
        Some(_) => Err(ApiError::invalid(
            "messages",
            "content is a text or a list of parts",
        )),
    }
}

/// All text of a message's content.
pub(super) fn text(message: &Value) -> Result<String, ApiError> {
    let texts = parts(message)?.into_iter().map(|part| match part {
        Part::Text(text) => Ok(text),
        _ => Err(ApiError::invalid(
            "messages",
            "a message of this role has text only",
        )),
    });
    Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
}

fn part(part: &Value) -> Result<Option<Part<'_>>, ApiError> {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or("text");
    let string = |path: &str| part.pointer(path).and_then(Value::as_str);
    let missing = || ApiError::invalid("messages", format!("a part of type {kind} is incomplete"));
    match kind {
        "text" | "refusal" => {
            let text = string(&format!("/{kind}")).ok_or_else(missing)?;
            Ok(texts(text).next())
        }
        "image_url" => {
            let url = image_url(part).ok_or_else(missing)?;
            Ok(Some(Part::Image(image(url)?)))
        }
        "file" => {
            let data = string("/file/file_data").ok_or_else(|| {
                let message = "files are sent as file_data: another vendor cannot read an id";
                ApiError::unsupported("messages", message)
            })?;
            Ok(Some(Part::File(source(data)?)))
        }
        other => Err(ApiError::unsupported(
            "messages",
            format!("this model takes no part of type {other}"),
        )),
    }
}

fn texts(text: &str) -> impl Iterator<Item = Part<'_>> {
    (!text.is_empty()).then_some(Part::Text(text)).into_iter()
}

/// The address of a part that is an image by its type.
pub(super) fn image_url(part: &Value) -> Option<&str> {
    let url = part.get("image_url")?;
    let url = url.get("url").unwrap_or(url);
    url.as_str().filter(|_| part["type"] == "image_url")
}

/// Whether an address is one of an image.
pub(super) fn is_image(url: &str) -> bool {
    image(url).is_ok()
}

fn image(url: &str) -> Result<Source<'_>, ApiError> {
    let Source::Data { mime, base64 } = source(url)? else {
        return Ok(Source::Url(url));
    };
    let known = IMAGES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(mime));
    let (_, mime) = known.ok_or_else(|| {
        let message = "the data: URL of an image is of image/png, jpeg, gif or webp";
        ApiError::invalid("messages", message)
    })?;
    Ok(Source::Data { mime, base64 })
}

fn source(url: &str) -> Result<Source<'_>, ApiError> {
    if url.starts_with("https://") || url.starts_with("http://") {
        return Ok(Source::Url(url));
    }
    let data = url
        .strip_prefix("data:")
        .and_then(|rest| rest.split_once(";base64,"));
    let (mime, base64) = data.ok_or_else(|| {
        ApiError::invalid("messages", "an image or file is an https: or data: URL")
    })?;
    Ok(Source::Data { mime, base64 })
}

/// The calls of tools in a message of the assistant: id, name, and arguments as an object.
pub(super) fn tool_calls(message: &Value) -> Result<Vec<(&str, &str, Value)>, ApiError> {
    let calls = message.get("tool_calls").and_then(Value::as_array);
    let calls = calls.into_iter().flatten().map(|call| {
        let string = |path: &str| call.pointer(path).and_then(Value::as_str);
        let (Some(id), Some(name)) = (string("/id"), string("/function/name")) else {
            let message = "a tool call has an id and the name of a function";
            return Err(ApiError::invalid("messages", message));
        };
        let arguments = match string("/function/arguments").unwrap_or_default().trim() {
            "" => Value::Object(serde_json::Map::new()),
            text => serde_json::from_str(text).unwrap_or_default(),
        };
        if !arguments.is_object() {
            let message = format!("the arguments of the tool call {id} are no JSON object");
            return Err(ApiError::invalid("messages", message));
        }
        Ok((id, name, arguments))
    });
    calls.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_images_and_files() {
        let message = json!({"content": [
            {"type": "text", "text": "a"}, {"type": "text", "text": ""},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,BBBB"}},
        ]});
        let data = |mime, base64| Source::Data { mime, base64 };
        assert_eq!(
            parts(&message).unwrap(),
            [
                Part::Text("a"),
                Part::Image(data("image/png", "AAAA")),
                Part::Image(Source::Url("https://example.com/a.png")),
                Part::File(data("application/pdf", "BBBB")),
            ]
        );
        assert_eq!(parts(&json!({"content": "a"})).unwrap(), [Part::Text("a")]);
        assert!(parts(&json!({"content": null})).unwrap().is_empty());
    }

    #[test]
    fn what_no_other_vendor_can_read_is_refused() {
        for content in [
            json!([{"type": "input_audio", "input_audio": {"data": ""}}]),
            json!([{"type": "file", "file": {"file_id": "file-1"}}]),
            json!([{"type": "image_url", "image_url": {"url": "ftp://x"}}]),
            json!([{"type": "image_url", "image_url": {"url": "data:video/mp4;base64,AAAA"}}]),
            json!([{"type": "image_url", "image_url": {"url": "data:application/pdf;base64,AAAA"}}]),
            json!([{"type": "image_url", "image_url": {"url": "data:image/png,video/mp4;base64,AAAA"}}]),
            json!([{"type": "image_url", "image_url": null}]),
            json!([{"type": "text"}]),
            json!(7),
        ] {
            let error = parts(&json!({"content": content})).unwrap_err();
            assert_eq!(error.status, 400, "{content}");
        }
    }

    #[test]
    fn arguments_are_an_object() {
        let message = |arguments: &str| json!({"tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}]});
        for (text, wanted) in [("", json!({})), (r#"{"a": 1}"#, json!({"a": 1}))] {
            let message = message(text);
            assert_eq!(tool_calls(&message).unwrap(), [("c", "f", wanted)]);
        }
        for bad in ["[1]", "{", "7"] {
            assert!(tool_calls(&message(bad)).is_err(), "{bad}");
        }
    }
}

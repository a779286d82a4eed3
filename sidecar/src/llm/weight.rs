//! What a JSON document takes when it is parsed, by its bytes alone: a list of zeros takes fifty times its bytes.

/// A value, beyond the bytes of its text.
const OF_VALUE: usize = 96;
/// A list or an object, which has room for a few values.
const OF_LIST: usize = 448;

/// An upper bound of the bytes that its values take. What is within strings is text.
pub(crate) fn weight(json: &[u8]) -> usize {
    let (mut weight, mut quoted, mut escaped) = (0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b',' | b':' => weight += OF_VALUE,
            b'[' | b'{' => weight += OF_LIST,
            _ => {}
        }
    }
    weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_text() {
        for (json, wanted) in [
            (r#""[[[,,,:::{{{""#, 0),
            (r#""\"[,""#, 0),
            (r#""\\",1"#, OF_VALUE),
            ("[0,0]", OF_LIST + OF_VALUE),
            (r#"{"a":[1]}"#, 2 * OF_LIST + OF_VALUE),
            (r#"["\\\"",{}]"#, 2 * OF_LIST + OF_VALUE),
        ] {
            assert_eq!(weight(json.as_bytes()), wanted, "{json}");
        }
    }
}

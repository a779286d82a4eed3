//! Server-sent events: `data:` lines, and an empty line at the end of each event. Names, ids and comments are not needed. An event
//! without its empty line is not one, as the standard says: the answer broke off.

/// Splits a body into events as it comes. It holds one event at a time, whose size the client's limit of bytes bounds.
#[derive(Debug, Default)]
pub(crate) struct Events {
    line: Vec<u8>,
    data: Option<Vec<u8>>,
    /// The last byte was a carriage return: a line feed after it belongs to the same end of a line.
    returned: bool,
}

impl Events {
    /// The data of each event that ends in this part of the body.
    pub(crate) fn push(&mut self, part: &[u8]) -> Vec<Vec<u8>> {
        let mut events = Vec::new();
        for &byte in part {
            let returned = std::mem::replace(&mut self.returned, byte == b'\r');
            match byte {
                b'\n' if returned => {}
                b'\n' | b'\r' => events.extend(self.end_line()),
                _ => self.line.push(byte),
            }
        }
        events
    }

    fn end_line(&mut self) -> Option<Vec<u8>> {
        if self.line.is_empty() {
            return self.data.take();
        }
        let value = match self.line.strip_prefix(b"data") {
            Some(b"") => Some(b"".as_slice()),
            Some([b':', b' ', value @ ..] | [b':', value @ ..]) => Some(value),
            _ => None,
        };
        if let Some(value) = value {
            match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => self.data = Some(value.to_vec()),
            }
        }
        self.line.clear();
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(parts: &[&str]) -> Vec<String> {
        let mut events = Events::default();
        parts
            .iter()
            .flat_map(|part| events.push(part.as_bytes()))
            .map(|event| String::from_utf8(event).unwrap())
            .collect()
    }

    #[test]
    fn events_end_with_an_empty_line_of_any_kind() {
        for (body, wanted) in [
            ("data: 1", vec![]),
            ("data: 1\n", vec![]),
            ("data: 1\n\n", vec!["1"]),
            ("data:1\n\ndata: 2\n\ndata: 3", vec!["1", "2"]),
            ("data: 1\r\n\r\ndata: 2\r\n\r\n", vec!["1", "2"]),
            ("data: 1\r\rdata: 2\n\n", vec!["1", "2"]),
            ("data: a\ndata:  b\n\n", vec!["a\n b"]),
            ("event: x\nid: 1\n: comment\ndata: 1\n\n", vec!["1"]),
            (": comment\n\n\n\n", vec![]),
            ("data\n\n", vec![""]),
            ("database: 1\n\n", vec![]),
        ] {
            assert_eq!(events(&[body]), wanted, "{body:?}");
        }
    }

    #[test]
    fn parts_may_end_anywhere() {
        let body = "data: one\r\n\r\ndata: two\r\n\r\n";
        for at in 0..body.len() {
            let (first, second) = body.split_at(at);
            assert_eq!(events(&[first, second]), ["one", "two"], "{at}");
        }
    }
}

//! Requests to platforms, and their answers. The addresses are the operator's, so no tenant chooses them.

use std::time::Duration;

use kijko_core::{
    outbound::{Client, Limits, OutboundError, RequestBuilder, Url, header},
    secret::Secret,
};
use reqwest::{Method, header::HeaderMap};
use serde_json::Value;

use crate::{llm::parse, service::SERVICE};

/// Images are larger than answers; one that a platform takes has 8 MiB at most.
const MAX_BYTES: usize = 9 << 20;

/// The client.
#[derive(Debug, Clone)]
pub(super) struct Http {
    client: Client,
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
    /// Null for anything but JSON.
    pub body: Value,
}

impl Reply {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// A text of the body, by its JSON pointer.
    pub(super) fn text(&self, pointer: &str) -> Option<String> {
        match self.body.pointer(pointer)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// A header that is a number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.headers.get(name)?.to_str().ok()?.trim().parse().ok()
    }
}

impl Http {
    pub(super) fn new(timeout: Duration) -> Result<Self, OutboundError> {
        let limits = Limits {
            connect_timeout: Duration::from_secs(5).min(timeout),
            total_timeout: timeout,
            idle_timeout: timeout,
            max_bytes: MAX_BYTES,
        };
        let client = Client::new(SERVICE, limits)?;
        Ok(Self { client })
    }

    /// A request to a path below an address. The path has no query.
    pub(super) fn request(&self, method: Method, base: &Url, path: &str) -> RequestBuilder {
        self.client.request(method, below(base, path))
    }

    /// The same with a query.
    pub(super) fn request_with(
        &self,
        method: Method,
        base: &Url,
        path: &str,
        fields: &[(&str, &str)],
    ) -> RequestBuilder {
        let mut url = below(base, path);
        url.query_pairs_mut().extend_pairs(fields);
        self.client.request(method, url)
    }

    /// A request to an address that a platform gave.
    pub(super) fn request_to(&self, method: Method, url: Url) -> RequestBuilder {
        self.client.request(method, url)
    }

    /// Sends it and reads the whole answer.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Reply, OutboundError> {
        let answer = self.client.send(request).await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let bytes = answer.bytes().await?;
        let body = parse(&bytes).unwrap_or_default();
        Ok(Reply {
            status,
            headers,
            bytes,
            body,
        })
    }
}

/// The token of an account.
pub(super) fn authorized(request: RequestBuilder, token: &Secret) -> RequestBuilder {
    request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()))
}

/// A form of fields.
pub(super) fn form(request: RequestBuilder, fields: &[(&str, &str)]) -> RequestBuilder {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(fields);
    request
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(form.finish())
}

fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}

/// A form with one file, as `multipart/form-data`.
pub(super) fn multipart(
    request: RequestBuilder,
    fields: &[(&str, &str)],
    name: &str,
    content_type: &str,
    bytes: &[u8],
) -> RequestBuilder {
    let boundary = uuid::Uuid::new_v4().simple().to_string();
    let mut body = Vec::with_capacity(bytes.len() + 1024);
    for (name, value) in fields {
        let part = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        );
        body.extend_from_slice(part.as_bytes());
    }
    let part = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"image\"\r\nContent-Type: {content_type}\r\n\r\n"
    );
    body.extend_from_slice(part.as_bytes());
    body.extend_from_slice(bytes);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    let content_type = format!("multipart/form-data; boundary={boundary}");
    request
        .header(header::CONTENT_TYPE, content_type)
        .body(body)
}

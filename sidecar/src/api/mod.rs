//! Asks the API, as the caller, what they may. The request carries the caller's own headers, so that PostgREST and the database
//! identify them, apply their rate limits and check the organization as for any other request. [`direct`]: some functions are asked
//! without PostgREST.

mod answer;
mod direct;
mod functions;
mod headers;

use std::time::{Duration, SystemTime};

pub(crate) use answer::NotGranted;
use answer::judged;
use axum::http::{HeaderMap, Method};
pub(crate) use direct::Direct;
pub(crate) use headers::IDENTITY;
use headers::limit_headers;
use kijko_core::{
    config::Reader,
    error::Error,
    outbound::{Client, Limits, OutboundError, RequestBuilder, Url},
    telemetry::traces::{self, span::Attributes},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::service::SERVICE;

/// A skill with its template is below 1 MiB, also when JSON escapes each of its characters.
const LIMITS: Limits = Limits {
    connect_timeout: Duration::from_secs(5),
    total_timeout: Duration::from_secs(10),
    idle_timeout: Duration::from_secs(10),
    max_bytes: 4 << 20,
};

/// The address of one of our own services. None: it is not set, or wrong.
pub(crate) fn address(env: &mut Reader<'_>, name: &'static str, example: &str) -> Option<Url> {
    let url = env.text(name)?.parse::<Url>().ok();
    let url = url.filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
    });
    if url.is_none() {
        env.problem(name, format_args!("must be the address of {example}"));
    }
    url
}

/// The API.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    client: Client,
    url: Url,
    /// By which some functions are asked without PostgREST.
    direct: Option<Direct>,
}

impl Api {
    /// Reads `KIJKO_REST_URL`: PostgREST, which identifies callers. None: it is not set, or wrong.
    pub(crate) fn url(env: &mut Reader<'_>) -> Option<Url> {
        let example = "PostgREST, such as http://127.0.0.1:54331";
        address(env, "KIJKO_REST_URL", example)
    }

    pub(crate) fn new(url: Url) -> Result<Self, OutboundError> {
        Ok(Self {
            client: Client::new(SERVICE, LIMITS)?,
            url,
            direct: None,
        })
    }

    /// None: it is not configured.
    pub(crate) fn at(url: Option<Url>) -> Result<Option<Self>, String> {
        url.map(Self::new)
            .transpose()
            .map_err(|error| format!("the client of the API: {error}"))
    }

    /// For answers that may be larger than a skill.
    pub(crate) fn with_max_bytes(self, max_bytes: usize) -> Self {
        let client = self.client.with(Limits {
            max_bytes,
            ..LIMITS
        });
        Self { client, ..self }
    }

    /// Asks some functions without PostgREST.
    pub(crate) fn with_direct(self, direct: Option<Direct>) -> Self {
        Self { direct, ..self }
    }

    /// For a route that cannot answer without it.
    pub(crate) fn configured(api: Option<&Self>) -> Result<&Self, Error> {
        api.ok_or(Error::NotConfigured("KIJKO_REST_URL is not set"))
    }

    /// Calls a function of the API as the sender of these headers. Beside its answer come headers that say what is left of their
    /// limits.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        function: &str,
        headers: &HeaderMap,
        arguments: &Value,
    ) -> Result<(T, HeaderMap), NotGranted> {
        let own = HeaderMap::new();
        self.call_with(function, headers, own, arguments).await
    }

    /// The same with headers of our own beside the sender's.
    pub(crate) async fn call_with<T: DeserializeOwned>(
        &self,
        function: &str,
        headers: &HeaderMap,
        own: HeaderMap,
        arguments: &Value,
    ) -> Result<(T, HeaderMap), NotGranted> {
        if let Some(direct) = &self.direct
            && let Some(answered) = direct.call(function, headers, &own, arguments).await?
        {
            return Ok(answered);
        }
        let request = self.rpc(function).headers(own).json(arguments);
        self.ask(function, headers, request).await
    }

    /// The same for a function that returns nothing.
    pub(crate) async fn run(
        &self,
        function: &str,
        headers: &HeaderMap,
        arguments: &Value,
    ) -> Result<HeaderMap, NotGranted> {
        let request = self.rpc(function).json(arguments);
        let (_, limits) = self.answer(function, headers, request).await?;
        Ok(limits)
    }

    /// Reads rows of a table as the sender of these headers: filters, order and limit as PostgREST has them.
    pub(crate) async fn read<T: DeserializeOwned>(
        &self,
        table: &str,
        headers: &HeaderMap,
        query: &[(&str, &str)],
    ) -> Result<(T, HeaderMap), NotGranted> {
        let request = self.client.request(Method::GET, self.at_path(table, query));
        self.ask(table, headers, request).await
    }

    /// Inserts a row as the sender of these headers. `key` are the columns of a unique key: `merge` updates a row that has the same,
    /// otherwise nothing is done and no row returned.
    pub(crate) async fn insert<T: DeserializeOwned>(
        &self,
        table: &str,
        headers: &HeaderMap,
        row: &Value,
        key: &str,
        merge: bool,
    ) -> Result<(T, HeaderMap), NotGranted> {
        let resolution = if merge { "merge" } else { "ignore" };
        let prefer = format!("return=representation, resolution={resolution}-duplicates");
        let url = self.at_path(table, &[("on_conflict", key)]);
        let request = self.client.post(url).header("prefer", prefer).json(row);
        self.ask(table, headers, request).await
    }

    /// Inserts (POST), changes (PATCH) or deletes rows of a table as the sender of these headers, and returns them.
    pub(crate) async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        table: &str,
        headers: &HeaderMap,
        query: &[(&str, &str)],
        row: Option<&Value>,
    ) -> Result<(T, HeaderMap), NotGranted> {
        let request = self.client.request(method, self.at_path(table, query));
        let mut request = request.header("prefer", "return=representation");
        if let Some(row) = row {
            request = request.json(row);
        }
        self.ask(table, headers, request).await
    }

    fn rpc(&self, function: &str) -> RequestBuilder {
        self.client
            .post(self.at_path(&format!("rpc/{function}"), &[]))
    }

    fn at_path(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.url.clone();
        let base = url.path().trim_end_matches('/');
        url.set_path(&format!("{base}/{path}"));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// `subject` is the function or table, for the log.
    async fn ask<T: DeserializeOwned>(
        &self,
        subject: &str,
        headers: &HeaderMap,
        request: RequestBuilder,
    ) -> Result<(T, HeaderMap), NotGranted> {
        let (body, limits) = self.answer(subject, headers, request).await?;
        let granted = serde_json::from_slice(&body).map_err(|error| Error::Internal {
            cause: format!("{subject} answered something unexpected: {error}"),
        })?;
        Ok((granted, limits))
    }

    async fn answer(
        &self,
        subject: &str,
        headers: &HeaderMap,
        mut request: RequestBuilder,
    ) -> Result<(Vec<u8>, HeaderMap), NotGranted> {
        for name in IDENTITY {
            for value in headers.get_all(name) {
                request = request.header(name, value.as_bytes());
            }
        }
        let start = SystemTime::now();
        let sent = self.client.send(request).await;
        let mut attributes = Attributes::default();
        attributes.set("peer.service", "postgrest");
        let answered = sent.as_ref().ok().map(|it| it.status().as_u16());
        attributes.set_some("http.response.status_code", answered.map(u32::from));
        let failed = (answered.is_none_or(|status| status >= 500)).then_some("unavailable");
        traces::record_child(format!("postgrest {subject}"), start, attributes, failed);
        let answer = sent.map_err(unavailable)?;
        let (status, limits) = (answer.status().as_u16(), limit_headers(answer.headers()));
        let body = answer.bytes().await.map_err(unavailable)?;
        judged(status, body, limits)
    }
}

fn unavailable(error: OutboundError) -> Error {
    Error::Unavailable {
        cause: format!("the API: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    fn read(value: &'static str) -> (Option<String>, usize) {
        let lookup = |name: &str| (name == "KIJKO_REST_URL").then(|| value.to_owned());
        let mut env = Reader::new(SERVICE, &lookup);
        let url = Api::url(&mut env);
        let problems = env
            .finish(Some(()))
            .map_or_else(|error| error.problems.len(), |()| 0);
        (url.map(|url| url.to_string()), problems)
    }

    async fn answer(status: u16, body: &'static str) -> Result<(Value, HeaderMap), NotGranted> {
        let respond = move || async move { (StatusCode::from_u16(status).unwrap(), body) };
        let routes = axum::Router::new().route("/rpc/f", axum::routing::post(respond));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, routes).into_future());
        let api = Api::new(url.parse().unwrap()).unwrap();
        api.call("f", &HeaderMap::new(), &Value::Null).await
    }

    #[tokio::test]
    async fn what_fails_behind_the_api_says_why_in_the_log_only() {
        for (status, body, wanted) in [
            (
                500,
                r#"{"code":"57014","message":"canceling statement"}"#,
                "the API answered 500: 57014: canceling statement",
            ),
            (
                503,
                r#"{"code":"PGRST003","message":"Timed out"}"#,
                "the API answered 503: PGRST003: Timed out",
            ),
            (502, "<html>", "the API answered 502"),
            (503, r#"{"code":7}"#, "the API answered 503"),
            (400, r#"{"code":""}"#, "the API answered 400: : "),
        ] {
            let NotGranted::Failed(error) = answer(status, body).await.unwrap_err() else {
                panic!("refused: {wanted}");
            };
            assert_eq!(error.cause(), Some(wanted));
            assert!(!error.to_string().contains("cancel"));
        }
    }

    #[tokio::test]
    async fn what_the_database_misses_is_for_the_caller() {
        let body = r#"{"code":"unavailable","message":"no key"}"#;
        match answer(503, body).await.unwrap_err() {
            NotGranted::Refused(refusal) => assert_eq!(refusal.status(), 503),
            NotGranted::Failed(error) => panic!("{error}"),
        }
    }

    #[test]
    fn an_address_is_http_and_holds_no_secret() {
        assert_eq!(
            read("http://127.0.0.1:54331"),
            (Some("http://127.0.0.1:54331/".to_owned()), 0)
        );
        assert_eq!(read(""), (None, 0));
        for bad in ["here", "ftp://x", "http://user:pw@x/", "http://x/?apikey=y"] {
            assert_eq!(read(bad), (None, 1), "{bad}");
        }
    }
}

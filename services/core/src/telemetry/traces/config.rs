//! The settings, by the names that OpenTelemetry gives them.

use std::{collections::BTreeMap, time::Duration};

use percent_encoding::percent_decode_str;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::{config::Reader, outbound::Url};

/// Where spans go.
#[derive(Clone)]
pub struct TracesConfig {
    /// The address of the collector, with its path.
    pub endpoint: Url,
    /// Such as its password. Marked as sensitive: they are not shown.
    pub headers: HeaderMap,
    /// How long one request may take.
    pub timeout: Duration,
    /// What spans say of this process beside its name and version.
    pub resource: BTreeMap<String, String>,
    /// Whether prompts and answers may be in spans.
    pub captures_content: bool,
    /// Of all traces, the share whose requests have spans.
    pub ratio: f64,
}

impl TracesConfig {
    /// None: there is no endpoint, and nothing is sent.
    pub(crate) fn read(env: &mut Reader<'_>) -> Option<Self> {
        let own = endpoint(env, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "");
        let common = endpoint(env, "OTEL_EXPORTER_OTLP_ENDPOINT", "v1/traces");
        for name in [
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        ] {
            if env
                .text(name)
                .is_some_and(|protocol| protocol != "http/protobuf")
            {
                env.problem(
                    name,
                    "must be http/protobuf: the only one that is spoken here",
                );
            }
        }
        let mut headers = headers(env, "OTEL_EXPORTER_OTLP_HEADERS");
        headers.extend(self::headers(env, "OTEL_EXPORTER_OTLP_TRACES_HEADERS"));
        let timeout = env.millis("OTEL_EXPORTER_OTLP_TIMEOUT", 10_000, 100..=60_000);
        let name = "OTEL_RESOURCE_ATTRIBUTES";
        let resource = pairs(env, name).into_iter().collect();
        let captures_content = env.flag("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT");
        let ratio = env.parsed("OTEL_TRACES_SAMPLER_ARG", "1", "a share such as 0.1");
        if !(0.0..=1.0).contains(&ratio) {
            env.problem("OTEL_TRACES_SAMPLER_ARG", "must be from 0 to 1");
        }
        Some(Self {
            ratio,
            endpoint: own.or(common)?,
            headers,
            timeout,
            resource,
            captures_content,
        })
    }
}

fn endpoint(env: &mut Reader<'_>, name: &'static str, path: &str) -> Option<Url> {
    let url = env.text(name)?.parse::<Url>().ok();
    let url = url.filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none()
            // The path is put behind the common endpoint's.
            && (path.is_empty() || url.query().is_none())
    });
    let Some(mut url) = url else {
        env.problem(
            name,
            "must be the address of a collector, such as http://127.0.0.1:4318, without a password",
        );
        return None;
    };
    if !path.is_empty() {
        url.set_path(&format!("{}/{path}", url.path().trim_end_matches('/')));
    }
    Some(url)
}

fn headers(env: &mut Reader<'_>, name: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (header, value) in pairs(env, name) {
        match (header.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
            (Ok(header), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.insert(header, value);
            }
            _ => env.problem(name, "must be headers, such as Authorization=Basic%20…"),
        }
    }
    headers
}

/// `key=value` pairs with commas between them; values are percent-encoded.
fn pairs(env: &mut Reader<'_>, name: &'static str) -> Vec<(String, String)> {
    let text = env.text(name).unwrap_or_default();
    let mut pairs = Vec::new();
    for pair in text
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
    {
        let read = pair.split_once('=').and_then(|(key, value)| {
            let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
            let key = key.trim();
            (!key.is_empty()).then(|| (key.to_owned(), value.into_owned()))
        });
        match read {
            Some(pair) => pairs.push(pair),
            None => env.problem(
                name,
                "must be pairs such as key=value, with commas between them",
            ),
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Service;

    fn read(given: &[(&str, &str)]) -> Result<Option<TracesConfig>, Vec<String>> {
        let lookup = |name: &str| {
            let found = given.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let mut env = Reader::new(Service::TEST, &lookup);
        let config = TracesConfig::read(&mut env);
        env.finish(Some(config)).map_err(|error| error.problems)
    }

    #[test]
    fn nothing_is_sent_unless_an_endpoint_is_set() {
        assert!(read(&[]).unwrap().is_none());
        assert!(
            read(&[
                ("OTEL_EXPORTER_OTLP_HEADERS", "a=b"),
                ("OTEL_RESOURCE_ATTRIBUTES", "a=b")
            ])
            .unwrap()
            .is_none()
        );
    }

    #[test]
    fn the_common_endpoint_gets_the_path_and_its_own_is_taken_as_it_is() {
        for (given, wanted) in [
            (
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4318"),
                "http://h:4318/v1/traces",
            ),
            (
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://h/api/public/otel/"),
                "https://h/api/public/otel/v1/traces",
            ),
            (
                ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://h/x?y=z"),
                "https://h/x?y=z",
            ),
        ] {
            assert_eq!(read(&[given]).unwrap().unwrap().endpoint.as_str(), wanted);
        }
        let both = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b/c"),
        ];
        assert_eq!(
            read(&both).unwrap().unwrap().endpoint.as_str(),
            "http://b/c"
        );
    }

    #[test]
    fn headers_are_decoded_and_not_shown() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h");
        let headers = (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "Authorization=Basic%20cGs6c2s=, x-a = 1",
        );
        let more = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-a=2");
        let config = read(&[endpoint, headers, more]).unwrap().unwrap();
        assert_eq!(config.headers["authorization"], "Basic cGs6c2s=");
        assert_eq!(config.headers["x-a"], "2");
        assert!(!format!("{:?}", config.headers).contains("cGs6"));
    }

    #[test]
    fn what_is_wrong_names_its_variable_and_no_value() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "hidden:4318"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://u:hidden@h"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h?k=hidden"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://hidden"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "hidden"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "hidden"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=hidden%0a"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a b=hidden"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
            ("OTEL_RESOURCE_ATTRIBUTES", "=hidden"),
            (
                "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
                "perhaps",
            ),
        ] {
            let problems = read(&[(name, value)]).err().unwrap_or_default().join("");
            assert!(
                problems.starts_with(name) && !problems.contains("hidden"),
                "{name}: {problems}"
            );
        }
    }
}

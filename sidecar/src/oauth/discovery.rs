//! What an OpenID provider says of itself, and its keys. Kept for an hour; keys are fetched again when a token names one that is
//! not among them, a few times a minute at most, so that the sender of tokens cannot make us ask without end. While the provider
//! does not answer, the last good answer holds, and it is asked again after a minute.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;

use super::http::{Fault, Http};

const FRESH: Duration = Duration::from_secs(3_600);
/// Keys are fetched for unknown ones this often in a minute.
const MAX_FORCED: u32 = 6;
const MINUTE: Duration = Duration::from_secs(60);

/// What we use of the metadata (OpenID Connect Discovery, RFC 8414, RFC 9207).
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Metadata {
    pub issuer: String,
    pub authorization_endpoint: String,
    pub token_endpoint: String,
    pub jwks_uri: String,
    pub userinfo_endpoint: Option<String>,
    pub revocation_endpoint: Option<String>,
    #[serde(default)]
    pub token_endpoint_auth_methods_supported: Vec<String>,
    #[serde(default)]
    pub scopes_supported: Vec<String>,
    /// Whether the callback has to name the issuer.
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

/// The metadata and keys of one issuer.
pub(crate) struct Discovery {
    issuer: String,
    http: Http,
    /// Until when the answer is fresh, and the answer.
    metadata: Mutex<Option<(Instant, Arc<Metadata>)>>,
    keys: Mutex<Keys>,
}

#[derive(Default)]
struct Keys {
    fetched: Option<(Instant, Arc<Value>)>,
    forced_since: Option<Instant>,
    forced: u32,
}

impl Discovery {
    pub(crate) fn new(issuer: String, http: Http) -> Self {
        Self {
            issuer,
            http,
            metadata: Mutex::default(),
            keys: Mutex::default(),
        }
    }

    pub(crate) async fn metadata(&self) -> Result<Arc<Metadata>, Fault> {
        const WHAT: &str = "discovery";
        let mut kept = self.metadata.lock().await;
        if let Some((until, metadata)) = &*kept
            && Instant::now() < *until
        {
            return Ok(metadata.clone());
        }
        let issuer = self.issuer.trim_end_matches('/');
        let url = format!("{issuer}/.well-known/openid-configuration");
        let fetched = match self.http.get::<Metadata>(&url, WHAT).await {
            // Another issuer's endpoints would get our secret.
            Ok(metadata) if metadata.issuer == self.issuer => Ok(metadata),
            Ok(_) => Err(Fault::Error(WHAT, "it names another issuer".to_owned())),
            Err(fault) => Err(fault),
        };
        match (fetched, &*kept) {
            (Ok(metadata), _) => {
                let metadata = Arc::new(metadata);
                *kept = Some((Instant::now() + FRESH, metadata.clone()));
                Ok(metadata)
            }
            (Err(fault), Some((_, last))) => {
                tracing::warn!(issuer = self.issuer, %fault, "the last known metadata is used");
                let last = last.clone();
                *kept = Some((Instant::now() + MINUTE, last.clone()));
                Ok(last)
            }
            (Err(fault), None) => Err(fault),
        }
    }

    /// The keys by which a token may be signed.
    pub(crate) async fn keys_for(&self, token: &str) -> Result<Arc<Value>, Fault> {
        let url = self.metadata().await?.jwks_uri.clone();
        let mut keys = self.keys.lock().await;
        if let Some((until, known)) = &keys.fetched {
            let known = known.clone();
            let unknown = key_id(token).is_some_and(|kid| !has_key(&known, &kid));
            let asks = Instant::now() >= *until || (unknown && keys.may_force());
            if !asks {
                return Ok(known);
            }
        }
        let fetched = self.http.get::<Value>(&url, "jwks").await;
        match (fetched, &keys.fetched) {
            (Ok(set), _) if set["keys"].is_array() => {
                let set = Arc::new(without_secrets(set));
                keys.fetched = Some((Instant::now() + FRESH, set.clone()));
                Ok(set)
            }
            (Ok(_), None) => Err(Fault::Unexpected("jwks")),
            (Err(fault), None) => Err(fault),
            (_, Some((_, last))) => {
                let last = last.clone();
                keys.fetched = Some((Instant::now() + MINUTE, last.clone()));
                Ok(last)
            }
        }
    }
}

impl Keys {
    fn may_force(&mut self) -> bool {
        if self
            .forced_since
            .is_none_or(|since| since.elapsed() >= MINUTE)
        {
            self.forced_since = Some(Instant::now());
            self.forced = 0;
        }
        self.forced += 1;
        self.forced <= MAX_FORCED
    }
}

/// Every reader of a published secret could sign with it.
fn without_secrets(mut set: Value) -> Value {
    if let Some(keys) = set["keys"].as_array_mut() {
        keys.retain(|key| key["kty"] != "oct");
    }
    set
}

/// The key that a token's header names. Only chooses keys: the database verifies the token.
fn key_id(token: &str) -> Option<String> {
    let header = BASE64_URL_SAFE_NO_PAD
        .decode(token.split('.').next()?)
        .ok()?;
    let header: Value = serde_json::from_slice(&header).ok()?;
    header["kid"].as_str().map(str::to_owned)
}

fn has_key(set: &Value, kid: &str) -> bool {
    set["keys"]
        .as_array()
        .is_some_and(|keys| keys.iter().any(|key| key["kid"] == kid))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::{Json, Router, http::StatusCode, response::Redirect, routing::get};
    use serde_json::json;

    use super::*;

    /// A provider of this machine, whose metadata are changed by `change`.
    async fn provider(routes: Router, change: impl FnOnce(&str, &mut Value)) -> Discovery {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let issuer = format!("http://{host}");
        let mut metadata = json!({
            "issuer": issuer, "authorization_endpoint": format!("{issuer}/a"),
            "token_endpoint": format!("{issuer}/t"), "jwks_uri": format!("{issuer}/jwks"),
        });
        change(&issuer, &mut metadata);
        let routes = routes.route(
            "/.well-known/openid-configuration",
            get(|| async { Json(metadata) }),
        );
        tokio::spawn(axum::serve(listener, routes).into_future());
        Discovery::new(issuer, Http::new(host.parse().unwrap()).unwrap())
    }

    fn token(kid: &str) -> String {
        let header = BASE64_URL_SAFE_NO_PAD.encode(json!({"kid": kid}).to_string());
        format!("{header}.e30.x")
    }

    #[tokio::test]
    async fn metadata_of_another_issuer_are_refused() {
        for issuer in ["https://other.example", "HTTP://127.0.0.1"] {
            let discovery = provider(Router::new(), |_, metadata| {
                metadata["issuer"] = issuer.into();
            });
            let fault = discovery.await.metadata().await.unwrap_err();
            assert!(matches!(fault, Fault::Error("discovery", _)), "{fault}");
        }
    }

    #[tokio::test]
    async fn keys_are_bounded_and_are_fetched_from_public_hosts_alone() {
        let large = json!({"keys": ["x".repeat(300_000)]});
        let routes = Router::new()
            .route("/jwks", get(|| async { Json(large) }))
            .route("/away", get(|| async { Redirect::temporary("/jwks") }));
        let discovery = provider(routes.clone(), |_, _| {}).await;
        let fault = discovery.keys_for("x").await.unwrap_err();
        assert!(matches!(fault, Fault::TooLarge(_)), "{fault}");
        let discovery = provider(routes.clone(), |issuer, metadata| {
            metadata["jwks_uri"] = format!("{issuer}/away").into();
        });
        let fault = discovery.await.keys_for("x").await.unwrap_err();
        assert!(matches!(fault, Fault::Status(_, 307)), "{fault}");
        for private in [
            "https://127.0.0.2/jwks",
            "https://169.254.169.254/",
            "https://localhost/jwks",
            "http://id.example/jwks",
            "file:///etc/passwd",
        ] {
            let discovery = provider(routes.clone(), |_, metadata| {
                metadata["jwks_uri"] = private.into();
            });
            let fault = discovery.await.keys_for("x").await.unwrap_err();
            assert!(matches!(fault, Fault::Refused(..)), "{private}: {fault}");
        }
    }

    #[tokio::test]
    async fn the_last_good_keys_hold_while_the_provider_is_down() {
        let down = Arc::new(AtomicBool::new(false));
        let is_down = down.clone();
        let keys = move || {
            let answer = match is_down.load(Ordering::SeqCst) {
                true => Err(StatusCode::BAD_GATEWAY),
                false => Ok(Json(json!({"keys": [{"kid": "a"}]}))),
            };
            async move { answer }
        };
        let discovery = provider(Router::new().route("/jwks", get(keys)), |_, _| {}).await;
        discovery.keys_for(&token("a")).await.unwrap();
        down.store(true, Ordering::SeqCst);
        let kept = discovery.keys_for(&token("b")).await.unwrap();
        assert!(has_key(&kept, "a"));
    }

    #[test]
    fn a_key_is_chosen_by_the_header_of_the_token() {
        let header = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","kid":"a"}"#);
        let token = format!("{header}.e30.x");
        assert_eq!(key_id(&token).as_deref(), Some("a"));
        assert_eq!(key_id("none"), None);
        let set = json!({"keys": [{"kid": "a"}]});
        assert!(has_key(&set, "a") && !has_key(&set, "b"));
    }

    #[tokio::test]
    async fn secrets_in_a_key_set_are_left_out() {
        let keys = || async {
            Json(
                json!({"keys": [{"kid": "a", "kty": "oct", "k": "c2VjcmV0"}, {"kid": "b", "kty": "RSA"}]}),
            )
        };
        let discovery = provider(Router::new().route("/jwks", get(keys)), |_, _| {}).await;
        let set = discovery.keys_for(&token("b")).await.unwrap();
        assert!(!has_key(&set, "a") && has_key(&set, "b"));
    }

    #[test]
    fn unknown_keys_are_asked_for_a_few_times_a_minute() {
        let mut keys = Keys::default();
        let allowed = (0..20).filter(|_| keys.may_force()).count();
        assert_eq!(allowed, MAX_FORCED as usize);
    }
}

//! Where the request of a target goes, and with which client and key.

use std::{sync::Arc, time::Duration};

use kijko_core::{
    outbound::{Answer, Client, Limits, OutboundError, RequestBuilder, Url},
    secret::Secret,
};
use uuid::Uuid;

use super::{
    failure::Failure,
    pauses::ProviderKey,
    room::{Room, Rooms},
    store::Target,
};
use crate::{
    llm::{Endpoint, Faults, LlmConfig, LlmError, LlmFault, Vendor, VendorConfig, weight},
    service::SERVICE,
    upstream::Upstream,
};

/// A whole answer of a server that an organization runs, and room for what such answers take at once, in KiB.
const MAX_WHOLE: usize = 4 << 20;
const MAX_ANSWERS_KIB: usize = 256 << 10;

/// The clients, and the vendors of this process' own keys.
pub(super) struct Upstreams {
    own: Client,
    rows: Upstream,
    vendors: LlmConfig,
    answers: Arc<Rooms>,
}

/// A way to a vendor.
pub(super) struct Route {
    pub vendor: Vendor,
    client: Client,
    base: Url,
    pub key: Option<Secret>,
    total: Duration,
    /// Of an organization's own server: the room for its answers, and the id of its row.
    bounded: Option<(Arc<Rooms>, Uuid)>,
}

/// How long a call may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub idle: Duration,
    pub total: Duration,
}

impl Upstreams {
    pub(super) fn new(vendors: &LlmConfig) -> Result<Self, String> {
        let own = Client::new(SERVICE, vendors.limits).map_err(|error| error.to_string())?;
        Ok(Self {
            own,
            rows: Upstream::default(),
            vendors: vendors.clone(),
            answers: Arc::new(Rooms::new(MAX_ANSWERS_KIB)),
        })
    }

    /// The way to a target. An address of a row is reached by the guarded client.
    pub(super) fn route(&self, target: &Target, times: Times) -> Result<Route, Failure> {
        let vendor = target.kind.vendor();
        let vendor = vendor.ok_or_else(|| missing(&target.provider))?;
        let limits = Limits {
            idle_timeout: times.idle,
            total_timeout: times.total,
            ..self.vendors.limits
        };
        let (client, base, key) = match &target.base_url {
            Some(url) => {
                let reached = self.rows.reach(&target.allowed_hosts, url);
                let (url, http) = reached.map_err(|error| {
                    let cause = error.cause().unwrap_or_default().to_owned();
                    tracing::info!(provider = target.provider, cause, "a provider's address");
                    let message =
                        format!("the address of {} is not called: {cause}", target.provider);
                    Failure::Vendor(LlmError::new(LlmFault::Unavailable, message))
                })?;
                (Client::of(http, limits), url, target.key.clone())
            }
            // An organization's key goes to the vendor itself, not to the operator's proxy.
            None if target.key.is_some() => {
                (self.own.with(limits), vendor.home(), target.key.clone())
            }
            None => {
                let config = self.configured(vendor);
                let config = config.ok_or_else(|| missing(&target.provider))?;
                let (base, key) = (config.base_url.clone(), config.api_key.clone());
                (self.own.with(limits), base, key)
            }
        };
        Ok(Route {
            vendor,
            client,
            base,
            key,
            total: times.total,
            bounded: match (&target.base_url, target.provider_id) {
                // Only the operator's rows have hosts.
                (Some(_), Some(id)) if target.allowed_hosts.is_empty() => {
                    Some((self.answers.clone(), id))
                }
                _ => None,
            },
        })
    }

    /// Where a target answers; none for one that is not called over the network.
    pub(super) fn address(&self, target: &Target) -> Option<Url> {
        let vendor = target.kind.vendor()?;
        match &target.base_url {
            Some(url) => url.parse().ok(),
            None if target.key.is_some() => Some(vendor.home()),
            None => Some(self.configured(vendor)?.base_url.clone()),
        }
    }

    fn configured(&self, vendor: Vendor) -> Option<&VendorConfig> {
        match vendor {
            Vendor::OpenAi => self.vendors.openai.as_ref(),
            Vendor::Anthropic => self.vendors.anthropic.as_ref(),
            Vendor::Gemini => self.vendors.gemini.as_ref(),
        }
    }
}

fn missing(provider: &str) -> Failure {
    Failure::Vendor(LlmError::new(
        LlmFault::ModelNotAvailable,
        format!("no key is configured for {provider}/… models"),
    ))
}

impl Target {
    /// Whose concurrency and pauses count.
    pub(super) fn provider_key(&self) -> ProviderKey {
        match self.provider_id {
            Some(id) => ProviderKey::Row(id),
            None => ProviderKey::Process(self.provider.clone()),
        }
    }
}

impl Route {
    /// Whether this is OpenAI itself and not a server that speaks its API.
    pub(super) fn is_openai(&self) -> bool {
        let host = self.base.host_str().unwrap_or_default();
        host == "api.openai.com" || host.ends_with(".openai.azure.com")
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// A whole answer, and the room that it takes once it is parsed.
    pub(super) async fn collect(
        &self,
        mut answer: Answer,
    ) -> Result<(Vec<u8>, Option<Room>), Failure> {
        let faults = Faults {
            vendor: self.vendor,
            api_key: self.key.as_ref(),
        };
        let broken = |error| Failure::from(faults.outbound(&error));
        let Some((rooms, id)) = &self.bounded else {
            return Ok((answer.bytes().await.map_err(broken)?, None));
        };
        let mut room = rooms.enter(*id).ok_or(Failure::Busy)?;
        let mut whole = Vec::new();
        while let Some(part) = answer.next().await.map_err(broken)? {
            if whole.len() + part.len() > MAX_WHOLE {
                return Err(broken(OutboundError::TooLarge(MAX_WHOLE)));
            }
            room.grow(part.len()).await.map_err(Failure::Unfit)?;
            whole.extend_from_slice(&part);
        }
        room.grow(weight(&whole)).await.map_err(Failure::Unfit)?;
        Ok((whole, Some(room)))
    }

    /// A request without its body.
    pub(super) fn post(&self, endpoint: Endpoint, model: &str) -> Result<RequestBuilder, Failure> {
        if !self.vendor.takes_name(model) {
            return Err(Failure::Vendor(LlmError::new(
                LlmFault::ModelNotAvailable,
                format!("{} has no model of this name", self.vendor.name()),
            )));
        }
        let address = self.vendor.address(&self.base, endpoint, model);
        let request = self.client.post(address).timeout(self.total);
        Ok(self.vendor.authorize(request, self.key.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::post};
    use serde_json::json;

    use super::{super::config::GatewayConfig, *};

    fn route(base_url: Option<&str>, allowed_hosts: &str) -> Route {
        let mut env = kijko_core::config::Reader::new(SERVICE, &|_: &str| None);
        let config = GatewayConfig::read(&mut env);
        let target = json!({
            "index": 0, "provider": "p", "kind": "openai", "base_url": base_url, "key": "k", "model": "m",
            "max_output_tokens": 1, "max_concurrency": null, "provider_id": Uuid::nil(), "allowed_hosts": allowed_hosts,
        });
        let times = Times {
            idle: Duration::from_secs(5),
            total: Duration::from_secs(20),
        };
        let upstreams = Upstreams::new(&config.vendors).unwrap();
        let target = serde_json::from_value(target).unwrap();
        upstreams.route(&target, times).ok().unwrap()
    }

    #[test]
    fn answers_of_an_organizations_own_server_are_bounded() {
        let url = Some("https://models.example.com/v1");
        assert!(route(url, "").bounded.is_some());
        assert!(route(url, "models.example.com").bounded.is_none());
        assert!(route(None, "").bounded.is_none());
    }

    #[tokio::test]
    async fn a_whole_answer_has_room_and_is_no_larger_than_that() {
        let routes = Router::new()
            .route(
                "/small",
                post(|| async { format!("[{}]", "0,".repeat(1_000)) }),
            )
            .route("/large", post(|| async { "x".repeat(MAX_WHOLE + 1) }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, routes).into_future());
        let route = route(Some("https://models.example.com/v1"), "");
        let http = Client::of(
            reqwest::Client::new(),
            Limits {
                connect_timeout: Duration::from_secs(5),
                total_timeout: Duration::from_secs(20),
                idle_timeout: Duration::from_secs(20),
                max_bytes: 16 << 20,
            },
        );
        let ask = async |path: &str| {
            let request = http.post(format!("{base}{path}").parse().unwrap());
            route.collect(http.send(request).await.unwrap()).await
        };
        let rooms = &route.bounded.as_ref().unwrap().0;
        let (whole, room) = ask("/small").await.unwrap();
        let taken = (whole.len() + weight(&whole)).div_ceil(1_024);
        assert_eq!(rooms.free(), MAX_ANSWERS_KIB - taken);
        drop(room);
        assert!(matches!(ask("/large").await, Err(Failure::Vendor(_))));
        assert_eq!(rooms.free(), MAX_ANSWERS_KIB);
    }
}

//! Where the request of a target goes, and with which client and key.

use std::time::Duration;

use kijko_core::{
    outbound::{Client, Limits, RequestBuilder, Url},
    secret::Secret,
};

use super::{
    failure::Failure,
    slots::ProviderKey,
    store::{Kind, Target},
};
use crate::{
    llm::{LlmConfig, LlmError, LlmFault, Vendor, VendorConfig},
    service::SERVICE,
    upstream::Upstream,
};

/// The clients, and the vendors of this process' own keys.
pub(super) struct Upstreams {
    own: reqwest::Client,
    rows: Upstream,
    vendors: LlmConfig,
}

/// A way to a vendor.
pub(super) struct Route {
    pub vendor: Vendor,
    client: Client,
    base: Url,
    pub key: Option<Secret>,
    total: Duration,
}

/// What a request asks for, of the vendors that have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Chat,
    Embeddings,
    Images,
}

/// How long a call may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub idle: Duration,
    pub total: Duration,
}

impl Upstreams {
    pub(super) fn new(vendors: &LlmConfig) -> Result<Self, String> {
        let own = reqwest::Client::builder()
            .connect_timeout(vendors.limits.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .http1_only()
            .user_agent(format!("{}/{}", SERVICE.name, SERVICE.version))
            .build()
            .map_err(|error| format!("the client of the model vendors: {error}"))?;
        Ok(Self {
            own,
            rows: Upstream::default(),
            vendors: vendors.clone(),
        })
    }

    /// The way to a target. An address of a row is reached by the guarded client.
    pub(super) fn route(&self, target: &Target, times: Times) -> Result<Route, Failure> {
        let vendor = match target.kind {
            Kind::OpenAi => Vendor::OpenAi,
            Kind::Anthropic => Vendor::Anthropic,
            Kind::Gemini => Vendor::Gemini,
            Kind::Echo => return Err(missing(&target.provider)),
        };
        let (http, base, key) = match &target.base_url {
            Some(url) => {
                let reached = self.rows.reach(&target.allowed_hosts, url);
                let (url, client) = reached.map_err(|error| {
                    let cause = error.cause().unwrap_or_default().to_owned();
                    tracing::info!(provider = target.provider, cause, "a provider's address");
                    let message =
                        format!("the address of {} is not called: {cause}", target.provider);
                    Failure::Vendor(LlmError::new(LlmFault::Unavailable, message))
                })?;
                (client, url, target.key.clone())
            }
            // An organization's key goes to the vendor itself, not to the operator's proxy.
            None if target.key.is_some() => (self.own.clone(), vendor.home(), target.key.clone()),
            None => {
                let config = self.configured(vendor);
                let config = config.ok_or_else(|| missing(&target.provider))?;
                let (base, key) = (config.base_url.clone(), config.api_key.clone());
                (self.own.clone(), base, key)
            }
        };
        let limits = Limits {
            idle_timeout: times.idle,
            total_timeout: times.total,
            ..self.vendors.limits
        };
        Ok(Route {
            vendor,
            client: Client::of(http, limits),
            base,
            key,
            total: times.total,
        })
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

    /// A request without its body.
    pub(super) fn post(&self, endpoint: Endpoint, model: &str) -> Result<RequestBuilder, Failure> {
        // Gemini's name is part of the address, and must not lead elsewhere with the key.
        if self.vendor == Vendor::Gemini && model.contains(['/', ':', '@', '?', '#', '\\']) {
            return Err(Failure::Vendor(LlmError::new(
                LlmFault::ModelNotAvailable,
                "gemini has no model of this name",
            )));
        }
        let mut address = self.vendor.address(&self.base, model);
        if endpoint != Endpoint::Chat {
            let path = address.path();
            let path = match (self.vendor, endpoint) {
                (Vendor::OpenAi, Endpoint::Embeddings) => {
                    path.replace("/chat/completions", "/embeddings")
                }
                (Vendor::OpenAi, _) => path.replace("/chat/completions", "/images/generations"),
                _ => path.replace(":streamGenerateContent", ":batchEmbedContents"),
            };
            address.set_path(&path);
            address.set_query(None);
        }
        let request = self.client.post(address).timeout(self.total);
        let key = self.key.as_ref().map(Secret::expose);
        let request = match (self.vendor, key) {
            (_, None) => request,
            (Vendor::OpenAi, Some(key)) => request.bearer_auth(key),
            (Vendor::Anthropic, Some(key)) => request.header("x-api-key", key),
            (Vendor::Gemini, Some(key)) => request.header("x-goog-api-key", key),
        };
        Ok(match self.vendor {
            Vendor::Anthropic => request.header("anthropic-version", "2023-06-01"),
            Vendor::OpenAi | Vendor::Gemini => request,
        })
    }
}

//! The configured providers. A model's name chooses one: by the part before the slash, or by a well-known name.

use std::sync::Arc;

use super::{
    client::VendorClient,
    config::LlmConfig,
    echo::Echo,
    error::{LlmError, LlmFault},
    provider::Provider,
    vendor::Vendor,
};

/// The providers that are configured.
#[derive(Clone, Default)]
pub struct Models {
    providers: Vec<(&'static str, Arc<dyn Provider>)>,
}

impl Models {
    /// Sets up what the configuration names.
    pub fn new(config: &LlmConfig) -> Result<Self, LlmError> {
        let mut models = Self::default();
        if config.echo {
            models.add(Arc::new(Echo));
        }
        for (vendor, settings) in [
            (Vendor::OpenAi, &config.openai),
            (Vendor::Anthropic, &config.anthropic),
            (Vendor::Gemini, &config.gemini),
        ] {
            if let Some(settings) = settings {
                models.add(Arc::new(VendorClient::new(vendor, settings)?));
            }
        }
        Ok(models)
    }

    /// Adds a provider under its name.
    pub fn add(&mut self, provider: Arc<dyn Provider>) {
        self.providers.push((provider.name(), provider));
    }

    /// Names of the configured providers.
    pub fn names(&self) -> Vec<&'static str> {
        self.providers.iter().map(|(name, _)| *name).collect()
    }

    /// The provider of a model such as `openai/gpt-4o`, and the vendor's own name of the model. A name without a prefix belongs
    /// to the vendor that is known for it, or else to the OpenAI-compatible one. Only the first part counts: `openai/meta/llama`
    /// asks the OpenAI-compatible vendor (a router, say) for `meta/llama`.
    pub fn pick(&self, model: &str) -> Result<(Arc<dyn Provider>, String), LlmError> {
        let (prefix, name) = model.split_once('/').unwrap_or_else(|| {
            let vendor = Vendor::of_well_known(model).unwrap_or(Vendor::OpenAi);
            (vendor.name(), model)
        });
        match self
            .providers
            .iter()
            .find(|(provider, _)| *provider == prefix)
        {
            Some((_, provider)) => Ok((provider.clone(), name.to_owned())),
            None => Err(LlmError::new(
                LlmFault::ModelNotAvailable,
                format!("no provider is configured for {prefix}/… models"),
            )),
        }
    }
}

impl std::fmt::Debug for Models {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Models").field(&self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_chooses_the_provider() {
        let mut models = Models::default();
        models.add(Arc::new(Echo));
        let (provider, name) = models.pick("echo/some/thing").unwrap();
        assert_eq!((provider.name(), name.as_str()), ("echo", "some/thing"));
    }

    #[test]
    fn a_provider_that_is_not_configured_is_not_available() {
        for model in ["echo/echo", "openai/gpt-4o", "gpt-4o", "anthropic/claude"] {
            let error = Models::default().pick(model).err().unwrap();
            assert_eq!(
                (error.code(), error.retryable()),
                ("model_not_available", false),
                "{model}"
            );
        }
    }
}

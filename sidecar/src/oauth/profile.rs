//! Whose account it is: what a provider says of who has signed in, and whether it still takes a token.

use kijko_core::secret::Secret;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    browser,
    config::Kind,
    http::Fault,
    provider::{Provider, Revocation, Tokens},
};

#[derive(Deserialize)]
struct GitHubEmail {
    email: String,
    primary: bool,
    verified: bool,
}

impl Provider {
    /// Exchanges a code and asks who has signed in: what login decides by.
    pub(crate) async fn sign_in(
        &self,
        code: &str,
        callback: &str,
        browser: &Secret,
    ) -> Result<Value, Fault> {
        let tokens = self.exchange(code, callback, browser).await?;
        let mut found = match self.config.kind {
            Kind::GitHub => json!({"profile": self.github_profile(&tokens).await?}),
            Kind::GitLab => json!({"profile": self.gitlab_profile(&tokens).await?}),
            Kind::Oidc => self.identity(&tokens, browser).await?,
            _ => return Err(Fault::Unexpected("the provider")),
        };
        found["verifying"] = self.config.verifying.into();
        found["tokens"] = tokens.for_the_database();
        Ok(found)
    }

    /// Exchanges a code and asks whose account it is: what the connections decide by. Tokens of nobody are revoked.
    pub(crate) async fn connect(
        &self,
        code: &str,
        callback: &str,
        browser: &Secret,
    ) -> Result<Value, Fault> {
        let tokens = self.exchange(code, callback, browser).await?;
        if self.config.kind.is_social() {
            let (tokens, profile) = self.social_account(tokens).await?;
            return Ok(json!({"profile": profile, "tokens": tokens.for_the_database()}));
        }
        let account = match self.config.kind {
            Kind::GitHub => self.github_account(&tokens.access_token).await,
            Kind::GitLab => self.gitlab_profile(&tokens).await,
            _ => self.identity(&tokens, browser).await,
        };
        match account {
            Ok(found) => {
                let mut found = match self.config.kind {
                    Kind::GitHub | Kind::GitLab => json!({"profile": found}),
                    _ => found,
                };
                found["tokens"] = tokens.for_the_database();
                Ok(found)
            }
            // Some OpenID providers end all tokens of an account with one, and nobody knows whose this one is.
            Err(fault) if self.config.kind == Kind::Oidc => Err(fault),
            Err(fault) => {
                let tokens = Revocation {
                    access_token: tokens.access_token,
                    refresh_token: tokens.refresh_token,
                };
                if let Err(fault) = self.revoke(&tokens).await {
                    tracing::warn!(provider = self.config.name, %fault, "a token without an account is not revoked");
                }
                Err(fault)
            }
        }
    }

    /// Whether the provider still takes an access token. One that has nothing to ask is believed.
    pub(crate) async fn takes(&self, access_token: &Secret) -> Result<bool, Fault> {
        let asked = match self.config.kind {
            Kind::GitHub => self.github_account(access_token).await.map(drop),
            Kind::GitLab => {
                let url = format!("{}/api/v4/user", self.config.url);
                self.api(&url, access_token, "the user")
                    .await
                    .map(|_: Value| ())
            }
            Kind::Oidc => match self.metadata().await? {
                Some(metadata) if metadata.userinfo_endpoint.is_some() => {
                    let endpoint = metadata.userinfo_endpoint.as_deref().unwrap_or_default();
                    self.api(endpoint, access_token, "userinfo")
                        .await
                        .map(|_: Value| ())
                }
                _ => Ok(()),
            },
            _ => self.social_takes(access_token).await,
        };
        match asked {
            Ok(()) => Ok(true),
            Err(Fault::Status(_, 401)) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    async fn github_account(&self, access_token: &Secret) -> Result<Value, Fault> {
        let url = format!("{}/user", self.github_api());
        let user: Value = self.api(&url, access_token, "the user").await?;
        let subject = user["id"].as_u64().ok_or(Fault::Unexpected("the user"))?;
        Ok(json!({"sub": subject.to_string(), "preferred_username": user["login"]}))
    }

    async fn github_profile(&self, tokens: &Tokens) -> Result<Value, Fault> {
        let api = self.github_api();
        let user: Value = self
            .api(&format!("{api}/user"), &tokens.access_token, "the user")
            .await?;
        let emails: Vec<GitHubEmail> = self
            .api(
                &format!("{api}/user/emails"),
                &tokens.access_token,
                "the addresses",
            )
            .await?;
        let email = emails.iter().find(|email| email.primary);
        let subject = user["id"].as_u64().ok_or(Fault::Unexpected("the user"))?;
        Ok(json!({
            "iss": api, "sub": subject.to_string(), "name": user["name"], "avatar_url": user["avatar_url"],
            "user_name": user["login"], "preferred_username": user["login"],
            "email": email.map(|email| &email.email), "email_verified": email.is_some_and(|email| email.verified),
        }))
    }

    async fn gitlab_profile(&self, tokens: &Tokens) -> Result<Value, Fault> {
        let url = format!("{}/api/v4/user", self.config.url);
        let user: Value = self.api(&url, &tokens.access_token, "the user").await?;
        let subject = user["id"].as_u64().ok_or(Fault::Unexpected("the user"))?;
        Ok(json!({
            "iss": self.config.url, "sub": subject.to_string(), "name": user["name"], "avatar_url": user["avatar_url"],
            "user_name": user["username"], "preferred_username": user["username"],
            "email": user["email"], "email_verified": !user["confirmed_at"].is_null(),
        }))
    }

    /// The identity token with what verifies it. Many providers keep the address for userinfo.
    async fn identity(&self, tokens: &Tokens, browser: &Secret) -> Result<Value, Fault> {
        let Some(id_token) = &tokens.id_token else {
            return Err(Fault::Unexpected("the token endpoint"));
        };
        let mut found = self.verification(id_token.expose()).await?;
        found["id_token"] = id_token.expose().into();
        found["nonce"] = browser::nonce(browser).into();
        if let Some(metadata) = self.metadata().await?
            && let Some(endpoint) = &metadata.userinfo_endpoint
        {
            found["userinfo"] = self.api(endpoint, &tokens.access_token, "userinfo").await?;
        }
        Ok(found)
    }

    /// What verifies an identity token of this provider. A fault where it has none.
    pub(crate) async fn verification(&self, id_token: &str) -> Result<Value, Fault> {
        let Some(discovery) = &self.discovery else {
            return Err(Fault::Unexpected("discovery"));
        };
        let keys = discovery.keys_for(id_token).await?;
        Ok(json!({
            "jwks": *keys, "issuer": self.config.url, "client_ids": self.config.client_ids,
            "verifying": self.config.verifying,
        }))
    }
}

impl Tokens {
    /// As the database's functions take them.
    pub(crate) fn for_the_database(&self) -> Value {
        json!({
            "access_token": self.access_token.expose(),
            "refresh_token": self.refresh_token.as_ref().map(Secret::expose),
            "expires_in": seconds(self.expires_in.as_ref()),
            "refresh_expires_in": seconds(self.refresh_token_expires_in.as_ref()),
            "scope": self.scope,
        })
    }
}

fn seconds(value: Option<&Value>) -> Option<f64> {
    let value = value?;
    let number = value.as_f64().or_else(|| value.as_str()?.parse().ok());
    number.filter(|number| number.is_finite() && *number > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_a_positive_number() {
        for (value, expected) in [
            (json!(7200), Some(7200.0)),
            (json!("3599"), Some(3599.0)),
            (json!(0), None),
            (json!(-1), None),
            (json!("soon"), None),
            (json!("inf"), None),
            (json!(null), None),
        ] {
            assert_eq!(seconds(Some(&value)), expected, "{value}");
        }
    }
}

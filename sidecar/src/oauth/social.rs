//! Connections of LinkedIn, Facebook, Instagram and X. Nobody signs in by them.
//!
//! - LinkedIn has OpenID Connect, but its identity tokens lack the nonce: the account is asked for instead.
//! - Facebook gives a token of a person for an hour. It becomes one of two months, and that gives the token of a page, which stays.
//! - Instagram gives a token for an hour, which becomes one of two months. That one renews itself.
//! - X gives a token for two hours and a refresh token, which is good once.

use kijko_core::secret::Secret;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    config::Kind,
    http::Fault,
    provider::{Provider, Tokens},
};

const TOKEN: &str = "the token endpoint";
const ACCOUNT: &str = "the account";

impl Provider {
    /// The scopes without which whose account it is, or a token that lasts, cannot be had.
    pub(super) fn social_scopes(&self) -> &'static str {
        match self.config.kind {
            Kind::LinkedIn => "openid profile",
            Kind::Facebook => "pages_show_list",
            Kind::Instagram => "instagram_business_basic",
            _ => "users.read tweet.read offline.access",
        }
    }

    pub(super) fn social_authorize(&self) -> String {
        let url = &self.config.url;
        match self.config.kind {
            Kind::LinkedIn => format!("{url}/oauth/v2/authorization"),
            Kind::Facebook => format!("{url}/v25.0/dialog/oauth"),
            Kind::Instagram => format!("{url}/oauth/authorize"),
            _ => format!("{url}/i/oauth2/authorize"),
        }
    }

    pub(super) fn social_token(&self) -> String {
        match self.config.kind {
            Kind::LinkedIn => format!("{}/oauth/v2/accessToken", self.config.url),
            Kind::Instagram if self.config.url == "https://www.instagram.com" => {
                "https://api.instagram.com/oauth/access_token".to_owned()
            }
            Kind::Facebook | Kind::Instagram => format!("{}/oauth/access_token", self.social_api()),
            _ => format!("{}/2/oauth2/token", self.social_api()),
        }
    }

    pub(super) fn social_revoke(&self) -> Option<String> {
        match self.config.kind {
            Kind::LinkedIn => Some(format!("{}/oauth/v2/revoke", self.config.url)),
            Kind::Twitter => Some(format!("{}/2/oauth2/revoke", self.social_api())),
            // The token of a page cannot end what its person has granted; Instagram's ends with its time.
            _ => None,
        }
    }

    fn social_api(&self) -> String {
        match self.config.url.as_str() {
            "https://www.linkedin.com" => "https://api.linkedin.com".to_owned(),
            "https://www.facebook.com" => "https://graph.facebook.com/v25.0".to_owned(),
            "https://www.instagram.com" => "https://graph.instagram.com".to_owned(),
            "https://x.com" => "https://api.x.com".to_owned(),
            url => format!("{url}/api"),
        }
    }

    /// Tokens that last, and whose account it is.
    pub(super) async fn social_account(&self, tokens: Tokens) -> Result<(Tokens, Value), Fault> {
        match self.config.kind {
            Kind::LinkedIn => {
                let url = format!("{}/v2/userinfo", self.social_api());
                let found: Value = self.api(&url, &tokens.access_token, ACCOUNT).await?;
                Ok((tokens, json!({"sub": found["sub"], "name": found["name"]})))
            }
            Kind::Facebook => self.facebook_page(tokens).await,
            Kind::Instagram => {
                let (secret, token) = (&self.config.client_secret, &tokens.access_token);
                let fields = [
                    ("grant_type", "ig_exchange_token"),
                    ("client_secret", secret.expose()),
                    ("access_token", token.expose()),
                ];
                let lasting = self.instagram_token("access_token", &fields).await?;
                let url = format!("{}/me?fields=user_id,username", self.social_api());
                let found: Value = self.api(&url, &lasting.access_token, ACCOUNT).await?;
                let id = text(&found["user_id"])?;
                Ok((
                    lasting,
                    json!({"sub": id, "preferred_username": found["username"]}),
                ))
            }
            _ => {
                let url = format!("{}/2/users/me", self.social_api());
                let found: Value = self.api(&url, &tokens.access_token, ACCOUNT).await?;
                let id = text(&found["data"]["id"])?;
                let name = &found["data"]["username"];
                Ok((tokens, json!({"sub": id, "preferred_username": name})))
            }
        }
    }

    /// The one page that was granted. Of several nobody has said which is meant.
    async fn facebook_page(&self, tokens: Tokens) -> Result<(Tokens, Value), Fault> {
        let fields = [
            ("grant_type", "fb_exchange_token"),
            ("fb_exchange_token", tokens.access_token.expose()),
        ];
        let lasting = self.token(&fields).await?;
        let url = format!(
            "{}/me/accounts?fields=id,name,access_token",
            self.social_api()
        );
        let found: Value = self.api(&url, &lasting.access_token, ACCOUNT).await?;
        let pages = found["data"].as_array().map(Vec::as_slice);
        let [page] = pages.unwrap_or_default() else {
            return Err(Fault::Error(ACCOUNT, "one page must be granted".to_owned()));
        };
        let page_token = text(&page["access_token"])?;
        let tokens = Tokens {
            access_token: Secret::new(page_token),
            refresh_token: None,
            id_token: None,
            expires_in: None,
            refresh_token_expires_in: None,
            scope: tokens.scope,
        };
        let id = text(&page["id"])?;
        Ok((tokens, json!({"sub": id, "name": page["name"]})))
    }

    /// Renews a token of Instagram by itself.
    pub(super) async fn instagram_refresh(&self, token: &Secret) -> Result<Tokens, Fault> {
        let fields = [
            ("grant_type", "ig_refresh_token"),
            ("access_token", token.expose()),
        ];
        self.instagram_token("refresh_access_token", &fields).await
    }

    /// X's word for a refresh token that is used, expired or withdrawn is `invalid_request`; ours are well-formed.
    pub(super) fn social_refreshed(
        &self,
        refreshed: Result<Tokens, Fault>,
    ) -> Result<Tokens, Fault> {
        match refreshed {
            Err(Fault::Error(what, error))
                if self.config.kind == Kind::Twitter && error == "invalid_request" =>
            {
                Err(Fault::Error(what, "invalid_grant".to_owned()))
            }
            refreshed => refreshed,
        }
    }

    async fn instagram_token(&self, path: &str, fields: &[(&str, &str)]) -> Result<Tokens, Fault> {
        // Dropped before the request: it cannot be sent between threads.
        let query = {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.extend_pairs(fields).finish()
        };
        let url = format!("{}/{path}?{query}", self.social_api());
        let request = self.http.request(Method::GET, &url, TOKEN)?;
        let answer = self.http.send(request, TOKEN).await?;
        match answer.status {
            200 => {}
            // Its errors are not OAuth's: any refusal of the token has one of these.
            400 | 401 => return Err(Fault::Error(TOKEN, "invalid_grant".to_owned())),
            status => return Err(Fault::Status(TOKEN, status)),
        }
        let found = serde_json::from_slice(&answer.body);
        let mut tokens: Tokens = found.map_err(|_| Fault::Unexpected(TOKEN))?;
        tokens.refresh_token = Some(tokens.access_token.clone());
        Ok(tokens)
    }

    /// Whether a token is still good. Meta's status for one that is not is 400.
    pub(super) async fn social_takes(&self, token: &Secret) -> Result<(), Fault> {
        let path = match self.config.kind {
            Kind::LinkedIn => "/v2/userinfo",
            Kind::Twitter => "/2/users/me",
            _ => "/me?fields=id",
        };
        let url = format!("{}{path}", self.social_api());
        let asked: Result<Value, Fault> = self.api(&url, token, ACCOUNT).await;
        match asked {
            Err(Fault::Status(what, 400)) if self.config.kind == Kind::Facebook => {
                Err(Fault::Status(what, 401))
            }
            asked => asked.map(drop),
        }
    }
}

fn text(value: &Value) -> Result<String, Fault> {
    match value {
        Value::String(text) if !text.is_empty() => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(Fault::Unexpected(ACCOUNT)),
    }
}

//! The three requests, through the guard. A token goes to its provider's host only, and nowhere after a redirect.

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{
    RequestBuilder, Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION},
};

use super::{FetchError, Fetcher, Source};

/// Redirects that are followed: a renamed repository, and one more.
const MAX_REDIRECTS: usize = 3;
const SERVICE: &str = "git-upload-pack";

/// Where a repository is, and who asks.
#[derive(Debug)]
pub struct Transport {
    fetcher: Fetcher,
    http: reqwest::Client,
    /// The repository's URL, without a slash at the end.
    base: Url,
    authorization: Option<HeaderValue>,
}

impl Transport {
    pub fn new(fetcher: &Fetcher, source: &Source) -> Result<Self, FetchError> {
        let url = fetcher.guard.check(&source.clone_url);
        let url = url.map_err(|refused| FetchError::Address(refused.to_string()))?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let token = source.token.as_ref().filter(|token| {
            url.scheme() == "https"
                && url.port().is_none()
                && token.host.eq_ignore_ascii_case(&host)
        });
        let authorization = token.map(|token| {
            let pair = STANDARD.encode(format!("{}:{}", token.user, token.secret.expose()));
            HeaderValue::from_str(&format!("Basic {pair}")).map(|mut value| {
                value.set_sensitive(true);
                value
            })
        });
        let authorization = authorization.transpose().map_err(|_| {
            FetchError::Address("the token has bytes that no header has".to_owned())
        })?;
        let (base, http) = match fetcher.mirrors.of(&url) {
            Some(mirror) => (mirror, &fetcher.mirror_http),
            None if url.scheme() != "https" && !fetcher.is_allowed(&url) => {
                return Err(FetchError::Address("only https is fetched".to_owned()));
            }
            None => (url, &fetcher.http),
        };
        Ok(Self {
            fetcher: fetcher.clone(),
            http: http.clone(),
            base,
            authorization,
        })
    }

    /// `GET info/refs`, redirects included.
    pub async fn advertisement(&mut self) -> Result<Response, FetchError> {
        let mut url = below(&self.base, "/info/refs");
        url.set_query(Some(&format!("service={SERVICE}")));
        for _ in 0..=MAX_REDIRECTS {
            let request = self.http.get(url.clone());
            let answer = self.send(request).await?;
            if !answer.status().is_redirection() {
                let answer = checked(answer, "application/x-git-upload-pack-advertisement")?;
                return Ok(answer);
            }
            url = self.redirected(&url, &answer)?;
            // The pack comes from where the redirect led.
            let path = url.path().strip_suffix("/info/refs");
            let path = path
                .ok_or(FetchError::Protocol("a redirect leads away from git"))?
                .to_owned();
            self.base = url.clone();
            self.base.set_path(&path);
            self.base.set_query(None);
            self.authorization = None;
            self.http = self.fetcher.http.clone();
        }
        Err(FetchError::Protocol("there are too many redirects"))
    }

    /// `POST git-upload-pack`.
    pub async fn upload_pack(&self, body: Vec<u8>) -> Result<Response, FetchError> {
        let request = self
            .http
            .post(below(&self.base, &format!("/{SERVICE}")))
            .header(CONTENT_TYPE, "application/x-git-upload-pack-request")
            .header(ACCEPT, "application/x-git-upload-pack-result")
            .body(body);
        let answer = self.send(request).await?;
        checked(answer, "application/x-git-upload-pack-result")
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, FetchError> {
        let request = request.header("Git-Protocol", "version=2");
        let request = match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        };
        // Of silence within the answer, the client's own limit of each read.
        let answer = tokio::time::timeout(self.fetcher.idle, request.send());
        Ok(answer.await.map_err(|_| FetchError::TimedOut)??)
    }

    /// Checked like any other URL; never from https to http.
    fn redirected(&self, from: &Url, answer: &Response) -> Result<Url, FetchError> {
        const BAD: FetchError = FetchError::Protocol("a redirect leads nowhere");
        let to = answer.headers().get(LOCATION).ok_or(BAD)?;
        let to = from.join(to.to_str().map_err(|_| BAD)?).map_err(|_| BAD)?;
        let to = self.fetcher.guard.check(to.as_str());
        let to = to.map_err(|refused| FetchError::Address(refused.to_string()))?;
        match from.scheme() == "https" && to.scheme() != "https" {
            true => Err(FetchError::Address(
                "a redirect leads away from https".to_owned(),
            )),
            false => Ok(to),
        }
    }
}

impl Fetcher {
    /// Whether it is on the operator's list, where http is enough.
    fn is_allowed(&self, url: &Url) -> bool {
        // The guard lets an address of ours pass for no other reason.
        url.host_str()
            .and_then(|host| host.parse().ok())
            .is_some_and(|address| !kijko_guard::is_public(address))
    }
}

fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}

fn checked(answer: Response, content_type: &str) -> Result<Response, FetchError> {
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(FetchError::Denied),
        StatusCode::NOT_FOUND | StatusCode::GONE => return Err(FetchError::NotFound),
        status => return Err(FetchError::Status(status.as_u16())),
    }
    let is_git = answer
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes() == content_type.as_bytes());
    match is_git {
        true => Ok(answer),
        false => Err(FetchError::Protocol("its type is another one")),
    }
}

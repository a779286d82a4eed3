//! How a call is opened. The API is asked as the caller, with a pass that proves the gateway. Then one transaction authorizes the
//! call, holds what it can use, and records it as sent, under an id of ours. Keys of vendors do not take that way: this process gets
//! them from the database, and keeps them for a while.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use kijko_core::{error::Error, secret::Secret};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::{error::ApiError, gateway::Gateway, settlement::Taken, store::Opened};
use crate::api::{Api, NotGranted};

const PASS: HeaderName = HeaderName::from_static("x-kijko-gateway");
const CALL: HeaderName = HeaderName::from_static("x-kijko-call");
/// How long a refusal waits for the settlement of calls that have ended.
const SETTLING: Duration = Duration::from_secs(2);
/// The same when another process has calls of the organization, which it may be settling.
const SETTLING_ELSEWHERE: Duration = Duration::from_millis(200);

/// What the API gives.
pub(super) enum Grant {
    /// The database opens the call for it.
    Ticket(String),
    Opened(Box<Opened>),
}

#[derive(Deserialize)]
struct Authorized {
    ticket: Option<String>,
    opened: Option<Box<Opened>>,
}

impl Gateway {
    /// Asks whether the caller may make a call. A refusal for what former calls of the organization hold counts once they are settled.
    pub(super) async fn authorize(
        &self,
        organization: Uuid,
        headers: &HeaderMap,
        arguments: &Value,
        places: &Taken,
    ) -> Result<(Grant, HeaderMap), ApiError> {
        let earlier = self.settler.outstanding.of(organization);
        let open = || self.open(organization, headers, arguments, places);
        match open().await {
            Err(error) if error.may_pass() => {
                let has_changed = match earlier {
                    Some(earlier) => earlier.ended(SETTLING).await,
                    None => self.may_change(organization).await,
                };
                match has_changed {
                    true => open().await,
                    false => Err(error),
                }
            }
            answer => answer,
        }
    }

    /// Waits a moment if another process may be settling calls of the organization; whether it did.
    async fn may_change(&self, organization: Uuid) -> bool {
        let calling = timeout(SETTLING, self.calls.is_calling(organization)).await;
        let calling = matches!(calling, Ok(Ok(true)));
        if calling {
            sleep(SETTLING_ELSEWHERE).await;
        }
        calling
    }

    async fn open(
        &self,
        organization: Uuid,
        headers: &HeaderMap,
        arguments: &Value,
        places: &Taken,
    ) -> Result<(Grant, HeaderMap), ApiError> {
        let api = Api::configured(self.api.as_ref())?;
        let mut own = HeaderMap::new();
        let mut asked = None;
        if let Some(pass) = self.passes.get(self.calls.as_ref()).await {
            let call = Uuid::new_v4();
            let id = HeaderValue::from_str(&call.to_string());
            if let Ok(id) = id {
                own.insert(PASS, pass);
                own.insert(CALL, id);
                asked = Some(self.settler.asked(call, organization, places.clone()));
            }
        }
        let function = "authorize_llm_call";
        let answer = api.call_with::<Authorized>(function, headers, own, arguments);
        let answer = answer.await;
        if let Some(asked) = &mut asked {
            asked.returned();
        }
        let (authorized, rate) = match answer {
            Ok(answered) => answered,
            // It may be open, and `asked` looks for it.
            Err(NotGranted::Failed(error)) => return Err(error.into()),
            Err(NotGranted::Refused(refusal)) => {
                if let Some(asked) = asked {
                    asked.answered();
                }
                return Err(ApiError::of_caller(*refusal).await);
            }
        };
        let grant = match (authorized.opened, authorized.ticket) {
            (Some(mut opened), _) => {
                self.add_keys(&mut opened).await?;
                Grant::Opened(opened)
            }
            (None, Some(ticket)) => Grant::Ticket(ticket),
            (None, None) => {
                let cause = format!("{function} gave nothing");
                return Err(Error::Internal { cause }.into());
            }
        };
        if let Some(asked) = asked {
            asked.answered();
        }
        Ok((grant, rate))
    }

    /// Opens a call by its ticket.
    pub(super) async fn redeem(&self, ticket: String) -> Result<Opened, ApiError> {
        let mut opened = self.calls.open(ticket.clone()).await;
        if opened.as_ref().is_err_and(|error| error.is_transient()) {
            opened = self.calls.open(ticket).await;
        }
        let opened = opened.map_err(|error| ApiError::from(Error::from(error)))?;
        opened.ok_or_else(|| {
            let cause = "the ticket has expired".to_owned();
            ApiError::from(Error::Unavailable { cause })
        })
    }

    /// The keys of its targets. A target whose key has changed meanwhile is not called: the new one may be for another address.
    async fn add_keys(&self, opened: &mut Opened) -> Result<(), ApiError> {
        for target in &mut opened.targets {
            let (Some(provider), Some(set_at)) = (target.provider_id, target.key_set_at) else {
                continue;
            };
            target.key = self.keys.get(provider, set_at, Instant::now());
            if target.key.is_none() {
                let found = self.calls.key(provider).await;
                let found = found.map_err(|error| ApiError::from(Error::from(error)))?;
                let found = found.filter(|found| found.key_set_at == Some(set_at));
                target.key = found.and_then(|found| found.key);
                if let Some(key) = &target.key {
                    let now = Instant::now();
                    self.keys.insert(provider, set_at, key.clone(), now);
                }
            }
        }
        let is_whole =
            |key: Option<&Secret>, set_at: Option<i64>| key.is_some() == set_at.is_some();
        opened
            .targets
            .retain(|target| is_whole(target.key.as_ref(), target.key_set_at));
        Ok(())
    }
}

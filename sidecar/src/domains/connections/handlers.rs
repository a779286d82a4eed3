//! Jobs of the kind `connection_refresh`: get a new token before the former one expires. One that cannot be refreshed is tried.

use std::{sync::Arc, time::Duration};

use kijko_core::{
    db::{DbError, carried, retry_transient},
    jobs::{Failure, Handler, HandlerError, Job, JobClass, JobKind, Queue},
    telemetry::canonical,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    metrics::ConnectionSeries,
    store::{Refresh, Store, Work},
};
use crate::oauth::{
    http::Fault,
    provider::{Provider, Providers, Tokens},
};

/// The payload of such a job.
#[derive(Debug, Deserialize)]
pub(super) struct RefreshJob {
    /// The connection.
    pub connection_id: Uuid,
}

impl JobKind for RefreshJob {
    const KIND: &'static str = "connection_refresh";
    const CLASS: JobClass = JobClass::Short;
    const HALF_OF_SLOTS: bool = true;
}

/// Refreshes connections.
pub(super) struct RefreshHandler {
    pub store: Store,
    pub providers: Arc<Providers>,
    pub series: Arc<ConnectionSeries>,
}

/// What the provider answers.
enum Outcome {
    /// New tokens; None if the one that we have is good.
    Good(Option<Box<Tokens>>),
    /// It no longer accepts the token that we have.
    Refused,
}

impl Handler for RefreshHandler {
    type Payload = RefreshJob;

    async fn run(
        &self,
        queue: &Queue,
        job: &Job,
        payload: RefreshJob,
    ) -> Result<Value, HandlerError> {
        canonical::add("connection_id", payload.connection_id.to_string());
        let limit = queue.retry_limit();
        let work = queue.begin(|| self.store.start(queue, job)).await?;
        let work = match work.ok_or(HandlerError::Superseded)? {
            Work::Refresh(work) => work,
            Work::Nothing => return Ok(json!({})),
            Work::Wait(wait) => {
                let mut failure = Failure::transient("refreshing", "another refresh is under way");
                failure.retry_after = Some(Duration::from_secs(wait.clamp(1, 60)));
                return Err(failure.into());
            }
        };
        canonical::add("oauth_provider", work.provider.clone());
        // In a task of its own: the future of a job may be dropped, and with it a refresh token that the provider gives once.
        let (store, providers) = (self.store.clone(), self.providers.clone());
        let task = tokio::spawn(carried(async move {
            refresh(&store, &providers, &work, limit).await
        }));
        match task.await {
            Ok(outcome) => {
                self.series.refreshed(name_of(&outcome));
                outcome
            }
            Err(_) => Err(Failure::internal().into()),
        }
    }
}

fn name_of(outcome: &Result<Value, HandlerError>) -> &'static str {
    match outcome {
        Ok(result) if result["refused"] == true => "refused",
        Ok(result) if result["refreshed"] == true => "refreshed",
        Ok(_) => "valid",
        Err(_) => "failed",
    }
}

async fn refresh(
    store: &Store,
    providers: &Providers,
    work: &Refresh,
    limit: Duration,
) -> Result<Value, HandlerError> {
    let Some(provider) = providers.get(&work.provider) else {
        let code = "provider_not_configured";
        let fault = Fault::Refused("the provider", "it is not configured".to_owned());
        retry_transient(limit, || store.failed(work, Some(&fault), code)).await?;
        return Err(Failure::permanent(code, "the provider is not configured").into());
    };
    let provider = provider.by(work.application.as_ref());
    match ask(&provider, work).await {
        Ok(Outcome::Good(tokens)) => {
            let stored =
                retry_transient(limit, || store.refreshed(work, tokens.as_deref())).await?;
            Ok(json!({"refreshed": stored && tokens.is_some()}))
        }
        Ok(Outcome::Refused) => {
            retry_transient(limit, || store.failed(work, None, "")).await?;
            Ok(json!({"refreshed": false, "refused": true}))
        }
        Err(fault) => {
            record(store, work, &fault, limit).await?;
            tracing::warn!(provider = work.provider, %fault, "a connection is not refreshed yet");
            let message = "the provider did not give a new token";
            Err(Failure::transient("provider_failed", message).into())
        }
    }
}

async fn ask(provider: &Provider, work: &Refresh) -> Result<Outcome, Fault> {
    if let Some(token) = &work.refresh_token {
        return match provider.refresh(token).await {
            Ok(tokens) => Ok(Outcome::Good(Some(Box::new(tokens)))),
            Err(fault) if fault.is_refused_grant() => Ok(Outcome::Refused),
            Err(fault) => Err(fault),
        };
    }
    let Some(token) = &work.access_token else {
        return Ok(Outcome::Good(None));
    };
    match provider.takes(token).await? {
        true => Ok(Outcome::Good(None)),
        false => Ok(Outcome::Refused),
    }
}

async fn record(
    store: &Store,
    work: &Refresh,
    fault: &Fault,
    limit: Duration,
) -> Result<(), DbError> {
    let code = match fault {
        Fault::Error(..) | Fault::Status(..) => "provider_refused",
        Fault::Refused(..) => "provider_not_allowed",
        Fault::Unreachable(..) | Fault::Unanswered(..) => "provider_unreachable",
        Fault::Unexpected(_) | Fault::TooLarge(_) => "provider_answer_invalid",
    };
    retry_transient(limit, || store.failed(work, Some(fault), code)).await
}

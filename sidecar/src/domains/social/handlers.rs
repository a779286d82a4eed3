//! Jobs of the kind `social_publish`: one step of one post. A post that has to wait is queued again by the database.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kijko_core::{
    db::{DbError, carried, retry_transient},
    jobs::{Failure as JobFailure, Handler, HandlerError, Job, JobClass, JobKind, Queue},
    secret::Secret,
    telemetry::canonical,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    failure::{Class, Failure, Refusal},
    metrics::SocialSeries,
    platform::Platforms,
    post::{Action, Created, Post, Prepared, now_seconds},
    store::{Store, Work},
};

/// The create call starts this long after its intent was about to be committed, or never.
const MAX_DELAY: Duration = Duration::from_secs(5);
/// How long a platform has to show a post after an answer that was lost.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// The payload of such a job.
#[derive(Debug, Deserialize)]
pub(super) struct PublishJob {
    /// The post.
    pub post_id: Uuid,
}

impl JobKind for PublishJob {
    const KIND: &'static str = "social_publish";
    const CLASS: JobClass = JobClass::Long;
    const HALF_OF_SLOTS: bool = true;
}

/// Publishes posts.
pub(super) struct PublishHandler {
    pub store: Store,
    pub platforms: Arc<Platforms>,
    /// Of the create call.
    pub limit: Duration,
    pub series: Arc<SocialSeries>,
}

/// A create call whose intent is committed.
struct Call<'a> {
    store: &'a Store,
    post: &'a Post,
    token: &'a Secret,
    create: Uuid,
    retry_limit: Duration,
}

/// How a step ended.
type Ended = Result<&'static str, HandlerError>;

impl Handler for PublishHandler {
    type Payload = PublishJob;

    async fn run(
        &self,
        queue: &Queue,
        job: &Job,
        payload: PublishJob,
    ) -> Result<Value, HandlerError> {
        canonical::add("social_post_id", payload.post_id.to_string());
        let work = queue.begin(|| self.store.begin(queue, job)).await?;
        let post = match work {
            Work::Post(post) => *post,
            Work::Nothing => return Ok(json!({})),
            Work::Wait(wait) => {
                let message =
                    "the connection is being refreshed, or another worker may still be at it";
                let mut failure = JobFailure::transient("waiting", message);
                failure.retry_after = Some(Duration::from_secs(wait.clamp(1, 300)));
                return Err(failure.into());
            }
        };
        canonical::add("platform", post.platform.clone());
        let mut prepared = Prepared::new(post.prepared.clone());
        let outcome = match post.action {
            Action::Publish => self.publish(queue, job, &post, &mut prepared).await?,
            Action::Check => self.check(queue, &post, post.create_id, &prepared).await?,
        };
        self.series.ended(&post.platform, outcome);
        Ok(json!({ "outcome": outcome }))
    }

    /// The result is in the post and its log.
    async fn record_success(&self, queue: &Queue, job: &Job, _: &Value) -> Result<bool, DbError> {
        self.store.end_job(queue, job).await
    }
}

impl Call<'_> {
    async fn refused(&self, refusal: Refusal) -> Ended {
        reject(self.store, self.post, &refusal, self.retry_limit).await?;
        let refusal = redacted(refusal, self.token);
        let refused = || self.store.refused(self.create, &refusal);
        retry_transient(self.retry_limit, refused).await?;
        Ok(refusal.class.name())
    }
}

/// Platforms like to quote what they got.
fn redacted(mut refusal: Refusal, token: &Secret) -> Refusal {
    refusal.message = token.redact(&refusal.message);
    refusal
}

/// A token that a platform refuses is refreshed, or its connection paused.
async fn reject(
    store: &Store,
    post: &Post,
    refusal: &Refusal,
    limit: Duration,
) -> Result<(), DbError> {
    if refusal.class == Class::Reauthorize {
        retry_transient(limit, || store.reject_token(post)).await?;
    }
    Ok(())
}

impl PublishHandler {
    async fn publish(
        &self,
        queue: &Queue,
        job: &Job,
        post: &Post,
        prepared: &mut Prepared,
    ) -> Ended {
        let limit = queue.retry_limit();
        // The call has ended by the deadline that the database knows.
        let limit_of_call = self.limit;
        let Some(token) = post.access_token.clone() else {
            return Err(JobFailure::internal().into());
        };
        loop {
            let is_ready = match self.platforms.prepare(post, &token, prepared).await {
                Ok(is_ready) => is_ready,
                Err(refusal) => {
                    reject(&self.store, post, &refusal, limit).await?;
                    let refusal = redacted(refusal, &token);
                    retry_transient(limit, || self.store.failed(queue, job, &refusal)).await?;
                    return Ok(refusal.class.name());
                }
            };
            let kept = retry_transient(limit, || self.store.prepared(queue, job, prepared.value()));
            if !kept.await? {
                return Err(HandlerError::Superseded);
            }
            if is_ready {
                break;
            }
        }
        let (started, begun_at) = (Instant::now(), now_seconds());
        let create = Uuid::new_v4();
        let may = retry_transient(MAX_DELAY, || {
            self.store.start_create(queue, job, create, limit_of_call)
        });
        if !may.await? {
            return Ok("stopped");
        }
        // In a task of its own: the future of a job may be dropped, and with it the platform's answer.
        let (store, platforms) = (self.store.clone(), self.platforms.clone());
        let (of_task, held) = (post.clone(), Prepared::new(prepared.value().clone()));
        let task = tokio::spawn(carried(async move {
            let call = Call {
                store: &store,
                post: &of_task,
                token: &token,
                create,
                retry_limit: limit,
            };
            if started.elapsed() > MAX_DELAY {
                let message = "the database took too long to commit the intent";
                let late = Refusal::new(Class::Transient, "create_too_late", message);
                return call.refused(late).await;
            }
            let asked = platforms.create(&of_task, &token, &held);
            let answer = tokio::time::timeout(limit_of_call, asked).await;
            match answer.unwrap_or_else(|_| Err(Failure::no_answer("no answer in time"))) {
                Ok(created) => {
                    retry_transient(limit, || store.published(create, &created)).await?;
                    Ok("published")
                }
                Err(Failure::Refused(refusal)) => call.refused(refusal).await,
                Err(Failure::Unknown(mut unknown)) => {
                    unknown.message = token.redact(&unknown.message);
                    retry_transient(limit, || store.lost(create, &unknown)).await?;
                    Ok("unknown")
                }
            }
        }));
        let ended: Ended = task
            .await
            .unwrap_or_else(|_| Err(JobFailure::internal().into()));
        let ended = ended?;
        if ended != "unknown" {
            return Ok(ended);
        }
        tokio::time::sleep(FIRST_LOOK).await;
        let post = Post {
            create_started_at: Some(begun_at),
            ..post.clone()
        };
        self.check(queue, &post, Some(create), prepared).await
    }

    /// Asks the platform whether the post is there.
    async fn check(
        &self,
        queue: &Queue,
        post: &Post,
        create: Option<Uuid>,
        prepared: &Prepared,
    ) -> Ended {
        let limit = queue.retry_limit();
        let Some(create) = create else {
            return Err(JobFailure::internal().into());
        };
        let can_tell = Platforms::can_find(&post.platform);
        let failure = match &post.access_token {
            _ if !can_tell => None,
            None => Some("the account has no valid token".to_owned()),
            Some(token) => match self.look(post, token, create, prepared, limit).await? {
                Ok(Some(created)) => {
                    let published = || self.store.published(create, &created);
                    if retry_transient(limit, published).await? {
                        return Ok("found");
                    }
                    // It is another post of the organization, with the same text.
                    None
                }
                Ok(None) => None,
                Err(failure) => Some(failure),
            },
        };
        let not_found = || self.store.not_found(create, can_tell, failure.as_deref());
        retry_transient(limit, not_found).await?;
        Ok("not_found")
    }

    /// What the platform shows, or why it was not asked or gave no answer. What it charges is reserved first.
    async fn look(
        &self,
        post: &Post,
        token: &Secret,
        create: Uuid,
        prepared: &Prepared,
        limit: Duration,
    ) -> Result<Result<Option<Created>, String>, HandlerError> {
        let most = Platforms::max_reads(&post.platform);
        let reserved = || self.store.reserve_reads(create, most);
        if most > 0 && !retry_transient(limit, reserved).await? {
            let reason = "quota_exceeded: the plan holds no more costs of publishing this month";
            return Ok(Err(reason.to_owned()));
        }
        let found = self.platforms.find(post, token, prepared).await;
        if most > 0 {
            let (look, reads) = (Uuid::new_v4(), found.as_ref().map_or(0, |look| look.reads));
            let charged = || self.store.charge_reads(create, look, reads);
            retry_transient(limit, charged).await?;
        }
        match found {
            Ok(look) => Ok(Ok(look.created)),
            Err(refusal) => {
                reject(&self.store, post, &refusal, limit).await?;
                let Refusal { code, message, .. } = redacted(refusal, token);
                Ok(Err(format!("{code}: {message}")))
            }
        }
    }
}

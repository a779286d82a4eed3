//! Jobs of the kind `skill_check`.

use std::sync::Arc;

use kijko_core::{
    db::{DbError, retry_transient},
    jobs::{Handler, HandlerError, Job, JobKind, Queue},
    telemetry::canonical,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{check::problems, store::Store};
use crate::sandbox::Sandbox;

/// The payload of such a job: it names the skill and has nothing of it.
#[derive(Debug, Deserialize)]
pub struct SkillCheckJob {
    /// The skill whose current version is to be checked.
    pub skill_id: Uuid,
}

impl JobKind for SkillCheckJob {
    const KIND: &'static str = "skill_check";
}

/// Checks templates and schemas.
///
/// A job checks the version that is current when it starts. The database takes the result only while that version is still current;
/// the save that made a later one has queued a job that starts after it. So a check that runs twice, or too late, does no harm.
pub(super) struct SkillCheckHandler {
    store: Store,
    sandbox: Arc<Sandbox>,
}

impl SkillCheckHandler {
    pub(super) fn new(store: Store, sandbox: Arc<Sandbox>) -> Self {
        Self { store, sandbox }
    }
}

impl Handler for SkillCheckHandler {
    type Payload = SkillCheckJob;

    async fn run(
        &self,
        queue: &Queue,
        _: &Job,
        payload: SkillCheckJob,
    ) -> Result<Value, HandlerError> {
        let id = payload.skill_id;
        canonical::add("skill_id", id.to_string());
        let skill = retry_transient(queue.retry_limit(), || self.store.start_check(id)).await?;
        let Some(skill) = skill else {
            return Ok(json!({ "recorded": false }));
        };
        canonical::add("skill_version", skill.version);
        let problems = problems(&self.sandbox, &skill.prompt_template, &skill.input_schema).await?;
        canonical::add("problems", problems.len());
        let problems = json!(problems);
        let recorded = retry_transient(queue.retry_limit(), || {
            self.store.record_check(id, skill.version, &problems)
        })
        .await?;
        Ok(json!({ "recorded": recorded }))
    }

    /// The result is in the skill, so the job is deleted: saves are many, and rows of ended jobs would stay for a month.
    async fn record_success(&self, queue: &Queue, job: &Job, _: &Value) -> Result<bool, DbError> {
        self.store.end_check(queue, job).await
    }
}

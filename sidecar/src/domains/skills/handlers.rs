//! Jobs of the kinds `skill_check` and `skill_test`.

use std::sync::Arc;

use kijko_core::{
    db::{DbError, retry_transient},
    jobs::{Failure, Handler, HandlerError, Job, JobClass, JobKind, Queue},
    telemetry::canonical,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    check::{Checker, PreviewError},
    store::Store,
};
use crate::input_files::InputFiles;

/// The payload of a check: it names the skill and has nothing of it.
#[derive(Debug, Deserialize)]
pub struct SkillCheckJob {
    /// The skill whose current version is to be checked.
    pub skill_id: Uuid,
}

impl JobKind for SkillCheckJob {
    const KIND: &'static str = "skill_check";
    const CLASS: JobClass = JobClass::Short;
}

/// Checks templates and schemas.
///
/// A job checks the version that is current when it starts. The database takes the result only while that version is still current;
/// the save that made a later one has queued a job that starts after it. So a check that runs twice, or too late, does no harm.
pub(super) struct SkillCheckHandler {
    store: Store,
    checker: Arc<Checker>,
}

impl SkillCheckHandler {
    pub(super) fn new(store: Store, checker: Arc<Checker>) -> Self {
        Self { store, checker }
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
        let skill = queue.begin(|| self.store.start_check(id)).await?;
        let Some(skill) = skill else {
            return Ok(json!({ "recorded": false }));
        };
        canonical::add("skill_version", skill.version);
        let task = &skill.task;
        let problems = self
            .checker
            .problems(&task.prompt_template, task.engine, &task.input_schema)
            .await?;
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

/// The payload of a dry run.
#[derive(Debug, Deserialize)]
pub struct SkillTestJob {
    /// The skill whose current version is to be tried.
    pub skill_id: Uuid,
    /// The input.
    pub input: Value,
    /// The files that it names.
    #[serde(default)]
    pub files: Vec<Value>,
}

impl JobKind for SkillTestJob {
    const KIND: &'static str = "skill_test";
    const CLASS: JobClass = JobClass::Short;
}

/// Renders the prompt of a dry run and estimates its call.
pub(super) struct SkillTestHandler {
    store: Store,
    checker: Arc<Checker>,
    files: InputFiles,
}

impl SkillTestHandler {
    pub(super) fn new(store: Store, checker: Arc<Checker>, files: InputFiles) -> Self {
        Self {
            store,
            checker,
            files,
        }
    }
}

impl Handler for SkillTestHandler {
    type Payload = SkillTestJob;

    async fn run(
        &self,
        queue: &Queue,
        job: &Job,
        payload: SkillTestJob,
    ) -> Result<Value, HandlerError> {
        let id = payload.skill_id;
        canonical::add("skill_id", id.to_string());
        let skill = queue.begin(|| self.store.start_check(id)).await?;
        let Some(skill) = skill else {
            return Err(Failure::permanent("not_found", "the skill was deleted").into());
        };
        let input = match payload.files.is_empty() {
            true => payload.input,
            false => self.files.fill(queue, job, payload.input).await?,
        };
        let preview = self.checker.preview(&skill.task, &input).await?;
        let mut result = json!(preview);
        result["skill_version"] = json!(skill.version);
        Ok(result)
    }
}

impl From<PreviewError> for HandlerError {
    fn from(error: PreviewError) -> Self {
        match error {
            PreviewError::Refused(problem) => {
                Self::Failed(Failure::permanent(problem.code, problem.message))
            }
            PreviewError::Sandbox(cause) => {
                tracing::error!(cause, "the sandbox failed");
                Self::Failed(Failure::internal())
            }
            PreviewError::Database(error) => Self::Database(error),
        }
    }
}

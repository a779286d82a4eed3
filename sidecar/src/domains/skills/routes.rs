//! `POST /functions/v1/skills-check`: what is wrong with a skill that is being edited, at once, and with an input the prompt and the
//! most that a run costs. The API says who the caller is and whether they may.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::post,
};
use kijko_core::{error::Error, http::extract::body, telemetry::canonical};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    check::{Checker, Preview, PreviewError},
    store::Task,
};
use crate::{
    api::{Api, NotGranted},
    input_files,
    problems::{Problem, runs},
    sandbox::{Engine, PromptError},
    turns::Turns,
};

/// As the table of skills.
const MAX_TEMPLATE_CHARS: usize = 100_000;

/// What the route needs.
#[derive(Clone)]
pub(super) struct Check {
    /// None: not configured.
    api: Option<Api>,
    checker: Arc<Checker>,
    max_body_bytes: usize,
    turns: Arc<Turns>,
}

impl Check {
    pub(super) fn new(api: Option<Api>, checker: Arc<Checker>, max_body_bytes: usize) -> Self {
        Self {
            api,
            checker,
            max_body_bytes,
            turns: Arc::default(),
        }
    }
}

/// What an editor has. With `skill_id`, what is left out is the skill's.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Draft {
    skill_id: Option<Uuid>,
    prompt_template: Option<String>,
    input_schema: Option<Value>,
    model: Option<String>,
    parameters: Option<Value>,
    input: Option<Value>,
}

/// What `public.check_skill` answers.
#[derive(Debug, Deserialize)]
struct Facts {
    org_id: Uuid,
    problems: Vec<Problem>,
    model: String,
    parameters: Map<String, Value>,
    /// Of the skill that was named.
    prompt_template: Option<String>,
    #[serde(default)]
    engine: Engine,
    input_schema: Option<Value>,
    max_output_tokens: Option<u64>,
}

/// The answer.
#[derive(Debug, Serialize)]
struct Checked {
    /// What stops the skill, and what is wrong with the input.
    problems: Vec<Problem>,
    /// Null without an input, or with problems.
    #[serde(flatten)]
    preview: Option<Preview>,
}

pub(super) fn routes(check: Check) -> Router {
    Router::new()
        .route("/functions/v1/skills-check", post(answer))
        .with_state(check)
}

async fn answer(
    State(check): State<Check>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, NotGranted> {
    let api = Api::configured(check.api.as_ref())?;
    let body = body::read(body, check.max_body_bytes).await?;
    let draft = Draft::parse(&body)?;
    let arguments = json!({
        "skill_id": draft.skill_id, "model": draft.model, "parameters": draft.parameters
    });
    let granted = api.call::<Facts>("check_skill", &headers, &arguments);
    let (facts, limits) = granted.await?;
    let task = Task {
        // A template in the draft is the skill's own, whatever prompt the stored skill names.
        engine: match draft.prompt_template {
            Some(_) => Engine::default(),
            None => facts.engine,
        },
        prompt_template: draft
            .prompt_template
            .or(facts.prompt_template)
            .unwrap_or_default(),
        input_schema: draft
            .input_schema
            .or(facts.input_schema)
            .unwrap_or_else(|| json!({"type": "object"})),
        model: facts.model,
        parameters: facts.parameters,
        max_output_tokens: facts.max_output_tokens,
    };
    let checked = check.check(&task, facts.problems, draft.input);
    let checked = check.turns.run(facts.org_id, checked).await;
    let checked = checked.ok_or_else(crowded)??;
    canonical::add("problems", checked.problems.len());
    Ok((limits, Json(checked)).into_response())
}

fn crowded() -> Error {
    Error::Unavailable {
        cause: "too many checks at once".to_owned(),
    }
}

impl Draft {
    fn parse(body: &[u8]) -> Result<Self, Error> {
        let draft: Self = body::json(body)?;
        let refuse = |message: &str| Err(Error::BadRequest(message.to_owned()));
        match &draft.prompt_template {
            None if draft.skill_id.is_none() => {
                return refuse("prompt_template or skill_id: must be given");
            }
            Some(template) if template.chars().count() > MAX_TEMPLATE_CHARS => {
                return refuse("prompt_template: at most 100000 characters");
            }
            _ => {}
        }
        if draft
            .input_schema
            .as_ref()
            .is_some_and(|it| !it.is_object())
        {
            return refuse("input_schema: must be an object");
        }
        if draft.input.as_ref().is_some_and(|it| !it.is_object()) {
            return refuse("input: must be an object");
        }
        if draft.input.as_ref().is_some_and(input_files::names_one) {
            return refuse("input: a check reads no files; test_skill() does");
        }
        Ok(draft)
    }
}

impl Check {
    async fn check(
        &self,
        task: &Task,
        of_model: Vec<Problem>,
        input: Option<Value>,
    ) -> Result<Checked, Error> {
        let checker = &self.checker;
        let mut problems = checker
            .problems(&task.prompt_template, task.engine, &task.input_schema)
            .await
            .map_err(sandbox_failed)?;
        let mut preview = None;
        if let (Some(input), true) = (input, runs(&problems)) {
            match checker.preview(task, &input).await {
                Ok(rendered) => preview = Some(rendered),
                Err(PreviewError::Refused(problem)) => problems.push(problem),
                Err(PreviewError::Database(error)) => return Err(error.into()),
                Err(PreviewError::Sandbox(cause)) => return Err(Error::Internal { cause }),
            }
        }
        problems.extend(of_model);
        Ok(Checked { problems, preview })
    }
}

fn sandbox_failed(error: PromptError) -> Error {
    Error::Internal {
        cause: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_has_a_template_or_names_a_skill() {
        let parse = |body: &str| Draft::parse(body.as_bytes()).map_err(|error| error.code());
        assert!(parse(r#"{"prompt_template": "x"}"#).is_ok());
        assert!(parse(r#"{"skill_id": "00000000-0000-4000-8000-000000000000"}"#).is_ok());
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"prompt_template": 1}"#,
            r#"{"prompt_template": "x", "template": "y"}"#,
            r#"{"prompt_template": "x", "input": []}"#,
            r#"{"prompt_template": "x", "input": {"a": [{"$file": "b"}]}}"#,
            r#"{"prompt_template": "x", "input_schema": true}"#,
            r#"{"skill_id": "1"}"#,
            r#"{"prompt_template": "a\u0000"}"#,
            r#"{"prompt_template": "a", "input": {"\u0000": 1}}"#,
        ] {
            assert_eq!(parse(bad).err(), Some("bad_request"), "{bad}");
        }
        let long = json!({"prompt_template": "é".repeat(MAX_TEMPLATE_CHARS + 1)}).to_string();
        assert_eq!(parse(&long).err(), Some("bad_request"));
    }
}

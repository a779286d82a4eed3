//! `POST /functions/v1/render-prompt`: what a prompt says with these variables, of a version that is stored or of a draft. The API says
//! who the caller is and whether they may.

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
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    api::{Api, NotGranted},
    problems::{self, Problem, runs},
    rendering::{Content, Prompt, RenderError, Rendered, Renderer},
    sandbox::{Engine, PromptError},
};

/// What the route needs.
#[derive(Clone)]
pub(super) struct Render {
    /// None: not configured.
    pub api: Option<Api>,
    pub renderer: Arc<Renderer>,
    pub max_body_bytes: usize,
}

/// A stored prompt, or a draft.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Draft {
    path: Option<String>,
    label: Option<String>,
    version: Option<i32>,
    content: Option<Content>,
    engine: Option<Engine>,
    input_schema: Option<Value>,
    variables: Option<Value>,
}

/// What `public.check_prompt` answers.
#[derive(Debug, Deserialize)]
struct Facts {
    org_id: Uuid,
    prompt: Option<Prompt>,
}

/// The answer.
#[derive(Debug, Serialize)]
struct Answer {
    path: Option<String>,
    version: Option<i32>,
    labels: Vec<String>,
    model: Option<String>,
    /// What is wrong with the prompt, and with the variables.
    problems: Vec<Problem>,
    /// `prompt` or `messages`; neither without variables, or with problems.
    #[serde(flatten)]
    rendered: Option<Rendered>,
}

pub(super) fn routes(render: Render) -> Router {
    Router::new()
        .route("/functions/v1/render-prompt", post(answer))
        .with_state(render)
}

async fn answer(
    State(render): State<Render>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, NotGranted> {
    let api = Api::configured(render.api.as_ref())?;
    let body = body::read(body, render.max_body_bytes).await?;
    let draft = Draft::parse(&body)?;
    let arguments = json!({"path": draft.path, "label": draft.label, "version": draft.version});
    let granted = api.call::<Facts>("check_prompt", &headers, &arguments);
    let (facts, limits) = granted.await?;
    let answer = render.answer(draft, facts).await?;
    canonical::add("problems", answer.problems.len());
    Ok((limits, Json(answer)).into_response())
}

impl Draft {
    fn parse(body: &[u8]) -> Result<Self, Error> {
        let refuse = |message: &str| Err(Error::BadRequest(message.to_owned()));
        let draft: Self = body::json(body)?;
        let is_draft =
            draft.content.is_some() || draft.engine.is_some() || draft.input_schema.is_some();
        let is_stored = draft.path.is_some();
        if is_draft == is_stored || (is_draft && draft.content.is_none()) {
            return refuse("path of a stored prompt, or content of a draft: one must be given");
        }
        if is_draft && (draft.label.is_some() || draft.version.is_some()) {
            return refuse("label and version are of a stored prompt");
        }
        let is_object = |value: &Option<Value>| value.as_ref().is_none_or(Value::is_object);
        if !is_object(&draft.input_schema) || !is_object(&draft.variables) {
            return refuse("input_schema and variables: must be objects");
        }
        Ok(draft)
    }
}

impl Render {
    async fn answer(&self, draft: Draft, facts: Facts) -> Result<Answer, Error> {
        let (content, engine, schema, mut answer) = match (facts.prompt, draft.content) {
            (Some(prompt), _) => {
                let answer = Answer {
                    path: Some(prompt.path),
                    version: Some(prompt.version),
                    labels: prompt.labels,
                    model: prompt.model,
                    problems: prompt.problems,
                    rendered: None,
                };
                (prompt.content, prompt.engine, prompt.input_schema, answer)
            }
            (None, Some(content)) => {
                let engine = draft.engine.unwrap_or_default();
                let schema = draft
                    .input_schema
                    .unwrap_or_else(|| json!({"type": "object"}));
                let (templates, placeholders) = (content.templates(), content.placeholders());
                let sandbox = &self.renderer.sandbox;
                let found = problems::find(sandbox, &templates, &placeholders, engine, &schema);
                let problems = self.renderer.in_turn(facts.org_id, found).await;
                let answer = Answer {
                    path: None,
                    version: None,
                    labels: Vec::new(),
                    model: None,
                    problems: problems.map_err(failed)?,
                    rendered: None,
                };
                (content, engine, schema, answer)
            }
            (None, None) => {
                let cause = "check_prompt answered no prompt".to_owned();
                return Err(Error::Internal { cause });
            }
        };
        // What is wrong with the model does not stop the rendering.
        let readable = answer.path.is_some() || runs(&answer.problems);
        if let (Some(variables), true) = (draft.variables, readable) {
            let rendered =
                self.renderer
                    .render(facts.org_id, &content, engine, &schema, &variables);
            match rendered.await {
                Ok(rendered) => answer.rendered = Some(rendered),
                Err(RenderError::Refused(error)) if !matches!(error, PromptError::Sandbox(_)) => {
                    let problem = Problem::new(error.code(), &error.to_string());
                    if !answer.problems.contains(&problem) {
                        answer.problems.push(problem);
                    }
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(answer)
    }
}

fn failed(error: RenderError) -> Error {
    match error {
        RenderError::Crowded => Error::Unavailable {
            cause: "too many renderings at once".to_owned(),
        },
        RenderError::Refused(error) => Error::Internal {
            cause: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_names_a_prompt_or_has_a_draft() {
        let parse = |body: &str| Draft::parse(body.as_bytes()).map_err(|error| error.code());
        for good in [
            r#"{"path": "a/b"}"#,
            r#"{"path": "a/b", "label": "staging", "variables": {}}"#,
            r#"{"content": "{{ a }}", "engine": "plain", "variables": {"a": 1}}"#,
            r#"{"content": [{"role": "user", "content": "x"}, {"type": "placeholder", "name": "h"}]}"#,
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"path": "a", "content": "x"}"#,
            r#"{"engine": "plain"}"#,
            r#"{"content": "x", "label": "staging"}"#,
            r#"{"content": "x", "engine": "ejs"}"#,
            r#"{"content": {}}"#,
            r#"{"path": "a", "variables": []}"#,
            r#"{"content": "x", "input_schema": true}"#,
            r#"{"path": "a", "version": "1"}"#,
            r#"{"path": "a", "more": 1}"#,
            r#"{"content": "\u0000"}"#,
        ] {
            assert_eq!(parse(bad).err(), Some("bad_request"), "{bad}");
        }
    }
}

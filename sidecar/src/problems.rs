//! What is wrong with a template and its schema, for their author.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::sandbox::{self, Engine, PromptError, Sandbox, Unknown};

/// Messages quote templates and schemas, which may be long.
const MAX_MESSAGE_CHARS: usize = 1_000;

/// So many variables are named.
const MAX_VARIABLES: usize = 20;

/// Whether a problem stops what has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// It does.
    Error,
    /// It may fail some runs.
    Warning,
}

/// One thing that is wrong, as the columns `problems` have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Problem {
    /// Short name.
    pub code: String,
    /// Whether it stops what has it.
    pub severity: Severity,
    /// In words, for the author.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(code: &str, message: &str) -> Self {
        Self {
            code: code.to_owned(),
            severity: Severity::Error,
            message: message.chars().take(MAX_MESSAGE_CHARS).collect(),
        }
    }
}

impl From<Unknown> for Problem {
    fn from(unknown: Unknown) -> Self {
        let (name, missing) = (unknown.name, unknown.always_missing);
        let reason = match missing {
            true => "no input of this schema can have it",
            false => {
                "the schema does not name it: a run without it fails, unless the template allows for that"
            }
        };
        Self {
            severity: if missing {
                Severity::Error
            } else {
                Severity::Warning
            },
            ..Self::new("unknown_variable", &format!("{name}: {reason}"))
        }
    }
}

/// The problems of templates that are one prompt, whose other variables are `more`, and of a schema. An error when the sandbox itself
/// failed.
pub(crate) async fn find(
    sandbox: &Sandbox,
    templates: &[&str],
    more: &[&str],
    engine: Engine,
    schema: &Value,
) -> Result<Vec<Problem>, PromptError> {
    let mut problems = Vec::new();
    let mut asked: Vec<String> = more.iter().map(|&name| name.to_owned()).collect();
    let mut readable = true;
    for template in templates {
        match wrong(
            &mut problems,
            sandbox.check_template(template, engine).await,
        )? {
            Some(names) => asked.extend(names),
            None => readable = false,
        }
    }
    let valid = wrong(&mut problems, sandbox.check_schema(schema).await)?;
    if readable && valid.is_some() {
        asked.sort_unstable();
        asked.dedup();
        let unknown = sandbox::unknown(&templates.join("\n"), &asked, schema);
        problems.extend(unknown.into_iter().take(MAX_VARIABLES).map(Problem::from));
    }
    Ok(problems)
}

/// Whether none of them stops what has them.
pub(crate) fn runs(problems: &[Problem]) -> bool {
    problems.iter().all(|it| it.severity != Severity::Error)
}

/// What the sandbox found; nothing when that is a problem. An error when the sandbox itself failed.
fn wrong<T>(
    problems: &mut Vec<Problem>,
    checked: Result<T, PromptError>,
) -> Result<Option<T>, PromptError> {
    match checked {
        Ok(found) => Ok(Some(found)),
        Err(error @ PromptError::Sandbox(_)) => Err(error),
        Err(error) => {
            problems.push(Problem::new(error.code(), &error.to_string()));
            Ok(None)
        }
    }
}

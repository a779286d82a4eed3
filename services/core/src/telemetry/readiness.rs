//! Whether the service can do its work. Each part brings its own check; the worst one decides.

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::{Map, Value};

/// From good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// No problem was found.
    Ok,
    /// Work goes on, but an operator should look.
    Degraded,
    /// Nothing can be done here.
    Down,
}

impl Status {
    /// [`Status::Ok`] when the condition holds, otherwise degraded.
    pub fn degraded_unless(fine: bool) -> Self {
        if fine { Self::Ok } else { Self::Degraded }
    }
}

/// What one check found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Its part of the whole.
    pub status: Status,
    /// Figures for a person, none of them secret.
    #[serde(flatten)]
    pub details: Map<String, Value>,
}

impl Report {
    /// A status without figures.
    pub fn new(status: Status) -> Self {
        Self {
            status,
            details: Map::new(),
        }
    }

    /// Adds a figure.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// Adds the fields of a structure.
    pub fn with_all(mut self, fields: &impl Serialize) -> Self {
        if let Ok(Value::Object(fields)) = serde_json::to_value(fields) {
            self.details.extend(fields);
        }
        self
    }
}

/// One part's check.
pub trait Check: Send + Sync {
    /// Its name in the answer.
    fn name(&self) -> &'static str;

    /// Runs the check. When the database is down, it need not ask it again.
    fn look(&self, database_up: bool) -> BoxFuture<'_, Report>;
}

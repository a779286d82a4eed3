//! The canonical line: one structured event at the end of each request and each job, with everything that is worth a search.
//!
//! The server and the worker open it with [`scope`] and write it with [`write()`]. Whatever runs in between adds fields with
//! [`add`], from any depth of calls, without a parameter for it. Fields are names of things (an event, a job, a model) and
//! counts. They are never secrets, prompts, inputs or answers.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};
use tracing::{Instrument, Level};
use uuid::Uuid;

/// The fields that were added so far.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    added: Arc<Mutex<Map<String, Value>>>,
    /// In no line: only reports of errors have it.
    user: Option<Uuid>,
    /// That of the request or the job; its statements have it, too (see [`crate::db`]).
    id: Option<Arc<str>>,
}

/// A longer text is cut: a line holds names, not contents.
const MAX_TEXT: usize = 200;

/// The field of the event that holds all the others as JSON; the JSON log spreads it out (see `logs`).
pub(super) const FIELD: &str = "fields";

/// Targets of the events, so that `KIJKO_LOG=info,kijko::request=warn` can choose.
pub(super) const REQUEST: &str = "kijko::request";
pub(super) const JOB: &str = "kijko::job";

/// What the line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A request that was answered.
    Request,
    /// A job that ended here.
    Job,
}

tokio::task_local! {
    static CURRENT: Fields;
}

/// Adds a field to the line of the request or job that this task works on. Outside of one it does nothing. The last value of
/// a name counts.
pub fn add(name: &'static str, value: impl Into<Value>) {
    let _ = CURRENT.try_with(|fields| fields.insert(name, value.into()));
}

/// Whose request this task works on, if that is known (see [`super::sentry`]).
pub(super) fn user() -> Option<Uuid> {
    CURRENT.try_with(|fields| fields.user).ok().flatten()
}

/// The id of the request or job that this task works on.
pub(crate) fn id() -> Option<Arc<str>> {
    CURRENT.try_with(|fields| fields.id.clone()).ok().flatten()
}

/// Keeps `work`, which a task of its own runs, a part of the request or job that this task works on.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let fields = CURRENT.try_with(Clone::clone).unwrap_or_default();
    scope(fields, work).in_current_span()
}

/// Runs `work`; what it adds goes to `fields`.
pub async fn scope<F: Future>(fields: Fields, work: F) -> F::Output {
    CURRENT.scope(fields, work).await
}

/// Writes the line. Fields given here replace added ones of the same name.
pub fn write(
    subject: Subject,
    level: Level,
    added: &Fields,
    own: impl IntoIterator<Item = (&'static str, Value)>,
) {
    let mut fields = added.lock().clone();
    for (name, value) in own {
        if !value.is_null() {
            fields.insert(name.to_owned(), value);
        }
    }
    let fields = Value::Object(fields).to_string();
    // The target and the level of an event are fixed where it stands.
    let line = || match (subject, level) {
        (Subject::Request, Level::DEBUG) => tracing::debug!(target: REQUEST, fields, "request"),
        (Subject::Request, Level::WARN) => tracing::warn!(target: REQUEST, fields, "request"),
        (Subject::Request, Level::ERROR) => tracing::error!(target: REQUEST, fields, "request"),
        (Subject::Request, _) => tracing::info!(target: REQUEST, fields, "request"),
        (Subject::Job, Level::WARN) => tracing::warn!(target: JOB, fields, "job"),
        (Subject::Job, Level::ERROR) => tracing::error!(target: JOB, fields, "job"),
        (Subject::Job, _) => tracing::info!(target: JOB, fields, "job"),
    };
    // Within, so that a report of the line knows the user.
    CURRENT.sync_scope(added.clone(), line);
}

impl Fields {
    /// Of the request or job of this id, and of the user whose request it is.
    pub fn of(id: impl Into<Arc<str>>, user: Option<Uuid>) -> Self {
        Self {
            user,
            id: Some(id.into()),
            ..Self::default()
        }
    }

    fn insert(&self, name: &str, value: Value) {
        let value = match value {
            Value::String(text) if text.len() > MAX_TEXT => {
                text.chars().take(MAX_TEXT).collect::<String>().into()
            }
            value => value,
        };
        self.lock().insert(name.to_owned(), value);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Map<String, Value>> {
        self.added.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn fields_belong_to_the_task_that_adds_them() {
        let (one, two) = (Fields::default(), Fields::default());
        let work = async |text: &'static str| {
            add("early", text);
            tokio::task::yield_now().await;
            add("late", text);
        };
        tokio::join!(
            scope(one.clone(), work("one")),
            scope(two.clone(), work("two"))
        );
        for (fields, text) in [(one, "one"), (two, "two")] {
            let fields = fields.lock();
            assert_eq!(
                (&fields["early"], &fields["late"]),
                (&text.into(), &text.into())
            );
        }
    }

    #[test]
    fn outside_of_a_scope_nothing_is_added() {
        add("lost", 1);
    }

    #[tokio::test]
    async fn long_texts_are_cut() {
        let fields = Fields::default();
        scope(fields.clone(), async { add("long", "é".repeat(1_000)) }).await;
        assert_eq!(fields.lock()["long"], "é".repeat(MAX_TEXT));
    }
}

//! Changes of access: a removed member, an ended session, a revoked key. Postgres notifies of them; each connection whose
//! caller is named asks the policies again. The notification only says whom to ask about, so a forged one changes nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use tokio::sync::{Notify, mpsc::UnboundedReceiver};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The connections, by what a change of access can name.
#[derive(Debug, Default)]
pub struct AccessChanges(Mutex<HashMap<u64, Entry>>);

#[derive(Debug)]
struct Entry {
    subjects: Vec<Uuid>,
    recheck: Arc<Notify>,
}

impl AccessChanges {
    fn entries(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a connection, or changes whom it acts for.
    pub fn set(&self, connection: u64, subjects: Vec<Uuid>, recheck: &Arc<Notify>) {
        let recheck = recheck.clone();
        self.entries()
            .insert(connection, Entry { subjects, recheck });
    }

    /// A connection has ended.
    pub fn remove(&self, connection: u64) {
        self.entries().remove(&connection);
    }

    /// Connections of this subject ask again.
    fn changed(&self, subject: Uuid) {
        let entries = self.entries();
        for entry in entries.values().filter(|e| e.subjects.contains(&subject)) {
            entry.recheck.notify_one();
        }
    }

    /// All connections that act for somebody ask again.
    fn all_changed(&self) {
        for entry in self.entries().values().filter(|e| !e.subjects.is_empty()) {
            entry.recheck.notify_one();
        }
    }
}

/// Passes notifications on until `stop`. None stands for a gap, in which any may have been missed; `after_gap` is for those who
/// must know of it, too.
pub async fn run(
    changes: Arc<AccessChanges>,
    mut notifications: UnboundedReceiver<Option<String>>,
    stop: CancellationToken,
    after_gap: impl Fn(),
) {
    loop {
        let payload = tokio::select! {
            () = stop.cancelled() => return,
            payload = notifications.recv() => match payload {
                Some(payload) => payload,
                None => return,
            },
        };
        match payload {
            None => {
                changes.all_changed();
                after_gap();
            }
            Some(text) => match subjects(&text) {
                subjects if subjects.is_empty() => {
                    tracing::debug!("a change of access names nobody");
                }
                subjects => subjects.into_iter().for_each(|id| changes.changed(id)),
            },
        }
    }
}

/// `{"user_id": …}`, `{"session_id": …}`, `{"api_key_id": …}` or `{"org_id": …}`.
fn subjects(payload: &str) -> Vec<Uuid> {
    let payload: Value = serde_json::from_str(payload).unwrap_or_default();
    ["user_id", "session_id", "api_key_id", "org_id"]
        .into_iter()
        .filter_map(|name| payload[name].as_str()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_names_subjects() {
        let id = Uuid::new_v4();
        assert_eq!(subjects(&format!(r#"{{"org_id":"{id}"}}"#)), [id]);
        for other in ["", "{", "[]", r#"{"org_id":1}"#, r#"{"user":"x"}"#] {
            assert!(subjects(other).is_empty(), "{other}");
        }
    }

    #[tokio::test]
    async fn only_connections_of_the_subject_ask_again() {
        let changes = AccessChanges::default();
        let (ada, bob) = (Uuid::new_v4(), Uuid::new_v4());
        let (of_ada, of_bob) = (Arc::<Notify>::default(), Arc::<Notify>::default());
        changes.set(1, vec![ada], &of_ada);
        changes.set(2, vec![bob], &of_bob);
        changes.changed(ada);
        of_ada.notified().await;
        let quiet = tokio::time::timeout(std::time::Duration::from_millis(20), of_bob.notified());
        assert!(quiet.await.is_err());
    }
}

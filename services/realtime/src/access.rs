//! Changes of access: a removed member, an ended session, a revoked key, an issuer that was removed. Postgres notifies of them; each connection whose
//! caller is named asks the policies again. The notification only says whom to ask about, so a forged one changes nothing.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use tokio::sync::{Notify, mpsc::UnboundedReceiver};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The connections, by what a change of access can name. The last changes are kept for those that Postgres identified before
/// they happened and that are added afterwards.
#[derive(Debug, Default)]
pub struct AccessChanges(Mutex<State>);

/// How many changes there had been.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

#[derive(Debug, Default)]
struct State {
    entries: HashMap<u64, Entry>,
    latest: Moment,
    recent: VecDeque<(Moment, Uuid)>,
    /// Changes up to this one are not among the recent ones.
    forgotten: Moment,
}

#[derive(Debug)]
struct Entry {
    subjects: Vec<Uuid>,
    recheck: Arc<Notify>,
}

/// Changes that are kept. Beyond that, who was identified before asks again.
const MAX_RECENT: usize = 1_024;

impl State {
    fn missed(&self, subject: Uuid, since: Moment) -> bool {
        let newest_first = self.recent.iter().rev();
        let later = newest_first.take_while(|(moment, _)| *moment > since);
        since < self.forgotten || later.into_iter().any(|(_, changed)| *changed == subject)
    }
}

impl AccessChanges {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be asked before Postgres is.
    pub fn moment(&self) -> Moment {
        self.state().latest
    }

    /// Adds a connection, or changes whom it acts for: each subject with the moment before Postgres was asked about it. A
    /// connection whose new subjects have changed since then asks again.
    pub fn set(&self, connection: u64, subjects: Vec<(Uuid, Moment)>, recheck: &Arc<Notify>) {
        let mut state = self.state();
        let known = state.entries.get(&connection).map(|entry| &entry.subjects);
        let missed = subjects.iter().any(|(subject, since)| {
            !known.is_some_and(|known| known.contains(subject)) && state.missed(*subject, *since)
        });
        let entry = Entry {
            subjects: subjects.into_iter().map(|(subject, _)| subject).collect(),
            recheck: recheck.clone(),
        };
        state.entries.insert(connection, entry);
        if missed {
            recheck.notify_one();
        }
    }

    /// A connection has ended.
    pub fn remove(&self, connection: u64) {
        self.state().entries.remove(&connection);
    }

    /// Connections of this subject ask again.
    fn changed(&self, subject: Uuid) {
        let state = &mut *self.state();
        state.latest.0 += 1;
        state.recent.push_back((state.latest, subject));
        if state.recent.len() > MAX_RECENT
            && let Some((oldest, _)) = state.recent.pop_front()
        {
            state.forgotten = oldest;
        }
        let entries = state.entries.values();
        for entry in entries.filter(|entry| entry.subjects.contains(&subject)) {
            entry.recheck.notify_one();
        }
    }

    /// All connections that act for somebody ask again.
    fn all_changed(&self) {
        let state = &mut *self.state();
        state.latest.0 += 1;
        state.forgotten = state.latest;
        state.recent.clear();
        let entries = state.entries.values();
        for entry in entries.filter(|entry| !entry.subjects.is_empty()) {
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

/// `{"user_id": …}`, `{"session_id": …}`, `{"issuer_id": …}`, `{"api_key_id": …}` or `{"org_id": …}`.
fn subjects(payload: &str) -> Vec<Uuid> {
    let payload: Value = serde_json::from_str(payload).unwrap_or_default();
    ["user_id", "session_id", "issuer_id", "api_key_id", "org_id"]
        .into_iter()
        .filter_map(|name| payload[name].as_str()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_payload_names_subjects() {
        let id = Uuid::new_v4();
        for name in ["user_id", "session_id", "issuer_id", "api_key_id", "org_id"] {
            assert_eq!(subjects(&format!(r#"{{"{name}":"{id}"}}"#)), [id], "{name}");
        }
        for other in ["", "{", "[]", r#"{"org_id":1}"#, r#"{"user":"x"}"#] {
            assert!(subjects(other).is_empty(), "{other}");
        }
    }

    /// Whether a connection is told to ask again.
    fn asks(recheck: &Arc<Notify>) -> bool {
        recheck.notified().now_or_never().is_some()
    }

    #[test]
    fn only_connections_of_the_subject_ask_again() {
        let changes = AccessChanges::default();
        let (ada, bob) = (Uuid::new_v4(), Uuid::new_v4());
        let (of_ada, of_bob) = (Arc::<Notify>::default(), Arc::<Notify>::default());
        let now = changes.moment();
        changes.set(1, vec![(ada, now)], &of_ada);
        changes.set(2, vec![(bob, now)], &of_bob);
        changes.changed(ada);
        assert_eq!((asks(&of_ada), asks(&of_bob)), (true, false));
        changes.all_changed();
        assert_eq!((asks(&of_ada), asks(&of_bob)), (true, true));
    }

    /// A session that ends after Postgres has said who it is and before its connection can be named.
    #[test]
    fn who_was_identified_before_a_change_asks_again() {
        let changes = AccessChanges::default();
        let (ada, bob) = (Uuid::new_v4(), Uuid::new_v4());
        let recheck = Arc::<Notify>::default();
        let before = changes.moment();
        changes.changed(ada);
        let after = changes.moment();
        changes.set(1, vec![(bob, before)], &recheck);
        assert!(!asks(&recheck), "another one has changed");
        changes.set(1, vec![(bob, before), (ada, before)], &recheck);
        assert!(asks(&recheck), "a new subject that has changed since");
        changes.set(1, vec![(ada, before)], &recheck);
        assert!(!asks(&recheck), "it was named already");
        changes.set(2, vec![(ada, after)], &recheck);
        assert!(!asks(&recheck), "Postgres knew of the change");
        changes.set(3, Vec::new(), &recheck);
        assert!(!asks(&recheck), "nobody");
    }

    #[test]
    fn what_may_have_been_missed_is_asked_again() {
        let changes = AccessChanges::default();
        let (ada, recheck) = (Uuid::new_v4(), Arc::<Notify>::default());
        let before = changes.moment();
        for _ in 0..MAX_RECENT {
            changes.changed(Uuid::new_v4());
        }
        changes.set(1, vec![(ada, before)], &recheck);
        assert!(!asks(&recheck), "all of them are known");
        changes.changed(Uuid::new_v4());
        changes.set(2, vec![(ada, before)], &recheck);
        assert!(asks(&recheck), "one was forgotten");
        let before = changes.moment();
        changes.all_changed();
        changes.set(3, vec![(ada, before)], &recheck);
        assert!(asks(&recheck), "a gap");
    }
}

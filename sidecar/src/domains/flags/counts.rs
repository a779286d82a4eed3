//! Evaluations that nobody else counts: added up in memory, and reported every few seconds. A process that dies loses those of
//! its last seconds; nothing is decided by them but whether a flag is still in use.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kijko_core::db::{Db, DbError};
use kijko_flags::Evaluation;
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const INTERVAL: Duration = Duration::from_secs(5);
/// Flags that are counted at once. What is beyond is left out.
const MAX_FLAGS: usize = 50_000;

/// What is not reported yet.
#[derive(Default)]
pub(super) struct Counts(Mutex<Pending>);

/// An organization, and one of its environments.
type Place = (Uuid, String);
type Toggles = BTreeMap<String, Count>;

#[derive(Default)]
struct Pending {
    flags: usize,
    of: HashMap<Place, Toggles>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Count {
    yes: u32,
    no: u32,
    variants: BTreeMap<String, u32>,
}

impl Counts {
    pub(super) fn add(&self, organization: Uuid, environment: &str, evaluations: &[Evaluation]) {
        let mut pending = self.lock();
        let place = (organization, environment.to_owned());
        for evaluation in evaluations {
            let variant = evaluation
                .variant_enabled
                .then(|| (evaluation.variant.clone(), 1));
            let count = Count {
                yes: evaluation.enabled.into(),
                no: (!evaluation.enabled).into(),
                variants: variant.into_iter().collect(),
            };
            pending.add(&place, &evaluation.name, count);
        }
    }

    /// Until `stop`, and once more then.
    pub(super) async fn report(&self, db: &Db, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(INTERVAL) => {}
            }
            if let Err(error) = self.flush(db).await {
                tracing::warn!(%error, "evaluations of flags are not counted");
            }
        }
    }

    async fn flush(&self, db: &Db) -> Result<(), DbError> {
        let mut taken = std::mem::take(&mut *self.lock()).of.into_iter();
        while let Some(((organization, environment), toggles)) = taken.next() {
            let sql = "select true from (select private.flags_count($1, $2, $3)) as counted";
            let report = json!(toggles);
            let counted: Result<bool, _> = db
                .scalar(sql, &[&organization, &environment, &report])
                .await;
            if let Err(error) = counted {
                // Next time, with what is counted until then.
                self.add_back(std::iter::once(((organization, environment), toggles)).chain(taken));
                return Err(error);
            }
        }
        Ok(())
    }

    fn add_back(&self, unreported: impl Iterator<Item = (Place, Toggles)>) {
        let mut pending = self.lock();
        for (place, toggles) in unreported {
            for (name, count) in toggles {
                pending.add(&place, &name, count);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn add(&mut self, place: &Place, name: &str, more: Count) {
        let flags = self.of.entry(place.clone()).or_default();
        if !flags.contains_key(name) {
            if self.flags >= MAX_FLAGS {
                return;
            }
            self.flags += 1;
        }
        let count = flags.entry(name.to_owned()).or_default();
        count.yes = count.yes.saturating_add(more.yes);
        count.no = count.no.saturating_add(more.no);
        for (variant, times) in more.variants {
            let known = count.variants.entry(variant).or_default();
            *known = known.saturating_add(times);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluations_add_up() {
        let evaluation = |name: &str, enabled| Evaluation {
            name: name.to_owned(),
            enabled,
            impression_data: false,
            variant: "blue".to_owned(),
            variant_enabled: enabled,
            payload: None,
        };
        let counts = Counts::default();
        counts.add(
            Uuid::nil(),
            "production",
            &[evaluation("a", true), evaluation("b", false)],
        );
        counts.add(Uuid::nil(), "production", &[evaluation("a", true)]);
        let pending = counts.lock();
        let flags = &pending.of[&(Uuid::nil(), "production".to_owned())];
        assert_eq!(
            (flags["a"].yes, flags["a"].variants["blue"], pending.flags),
            (2, 2, 2)
        );
        assert_eq!((flags["b"].no, flags["b"].variants.len()), (1, 0));
    }

    #[test]
    fn what_was_not_reported_is_counted_again() {
        let counts = Counts::default();
        let count = |yes| Count {
            yes,
            ..Count::default()
        };
        let place = (Uuid::nil(), "production".to_owned());
        counts.lock().add(&place, "a", count(2));
        let toggles = BTreeMap::from([("a".to_owned(), count(3)), ("b".to_owned(), count(1))]);
        counts.add_back([(place.clone(), toggles)].into_iter());
        let pending = counts.lock();
        let flags = &pending.of[&place];
        assert_eq!((flags["a"].yes, flags["b"].yes, pending.flags), (5, 1, 2));
    }
}

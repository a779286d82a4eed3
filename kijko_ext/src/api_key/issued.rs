//! The secrets that this transaction has generated. They are stored nowhere: the transaction that makes a key returns its
//! secret, and the table gets the hash.

use pgrx::prelude::*;

use super::format::{self, Hash};
use super::record::Uuid;
use crate::pg::random;
use crate::pg::xact::{PerTransaction, XactCallbacks};

/// Maximum number of secrets that a transaction remembers. The oldest is forgotten first.
const CAPACITY: usize = 10_000;

struct Issued {
    id: Uuid,
    secret: String,
    subtransaction: pg_sys::SubTransactionId,
}

struct State {
    issued: Vec<Issued>,
}

static STATE: PerTransaction<State> = PerTransaction::new(State { issued: Vec::new() });

/// Generates a secret for a key and returns its visible prefix.
pub fn generate(id: Uuid) -> String {
    let secret = format::generate(random::fill);
    let prefix = format::visible_prefix(&secret).to_owned();
    // SAFETY: reads what the transaction has set.
    let subtransaction = unsafe { pg_sys::GetCurrentSubTransactionId() };
    STATE.with_registered(|State { issued }| {
        if issued.len() >= CAPACITY {
            issued.remove(0);
        }
        issued.push(Issued {
            id,
            secret,
            subtransaction,
        });
    });
    prefix
}

pub fn secret(id: &Uuid) -> Option<String> {
    latest(id, |issued| issued.secret.clone())
}

pub fn hash(id: &Uuid) -> Option<Hash> {
    latest(id, |issued| format::hash(&issued.secret))
}

fn latest<T>(id: &Uuid, read: impl FnOnce(&Issued) -> T) -> Option<T> {
    STATE.with(|State { issued }| {
        let latest = issued.iter().rev().find(|issued| issued.id == *id);
        latest.map(read)
    })
}

impl XactCallbacks for State {
    fn commit(&mut self) {
        self.issued = Vec::new();
    }

    fn abort(&mut self, first: pg_sys::SubTransactionId) {
        self.issued.retain(|issued| issued.subtransaction < first);
    }

    fn merge_into_parent(
        &mut self,
        child: pg_sys::SubTransactionId,
        parent: pg_sys::SubTransactionId,
    ) {
        for issued in self.issued.iter_mut() {
            if issued.subtransaction == child {
                issued.subtransaction = parent;
            }
        }
    }

    fn prepare_error(&self) -> Option<&'static str> {
        None
    }
}

//! An entry of the ledger: one row for each use, written by the caller's transaction straight into the partition of the
//! hour.
//!
//! A row is inserted as COPY inserts it: tuple, index entries, WAL, statistics and TOAST as always, but without a query,
//! and so without permissions, triggers and row security. The ledger has none of these.

use std::cell::Cell;

use pgrx::prelude::*;

use super::columns::COLUMNS;
use super::{insert, partition};
use crate::clock;
use crate::pg::value::{Held, Value};
use crate::quota::meter_key::MeterKey;

/// The columns of a row, without its id and the time of its recording.
pub struct LedgerEntry<'a> {
    pub key: MeterKey<'a>,
    /// Postgres microseconds.
    pub period_start: i64,
    pub amount: i64,
    /// The part of the amount that lies above the limit.
    pub overage: i64,
    pub kind: &'static str,
    pub occurred_at: i64,
    pub idempotency_key: Option<&'a str>,
    pub actor: Option<&'a str>,
    pub reason: Option<&'a str>,
    /// A jsonb datum.
    pub attributes: Option<Held<'a>>,
}

thread_local! {
    static RANDOM: Cell<[u64; 2]> = const { Cell::new([0; 2]) };
}

/// Writes one row.
pub fn write(entry: &LedgerEntry) {
    // SAFETY: the partition is locked; the columns are the ledger's.
    unsafe {
        let (table, recorded_at) = partition::open();
        let id = new_id(recorded_at);
        let columns: [Value; COLUMNS] = [
            (&id).into(),
            entry.key.subject.into(),
            entry.key.meter.into(),
            entry.period_start.into(),
            entry.amount.into(),
            entry.overage.into(),
            entry.kind.into(),
            entry.occurred_at.into(),
            recorded_at.into(),
            entry.idempotency_key.into(),
            entry.actor.into(),
            entry.reason.into(),
            entry.attributes.into(),
        ];
        insert::row(table, &columns);
        pg_sys::table_close(table, pg_sys::NoLock as pg_sys::LOCKMODE);
    }
}

/// A version 7 UUID: milliseconds, their fraction in 12 bits, and random bits that need not be unpredictable.
pub fn new_id(at: i64) -> [u8; 16] {
    let mut random = RANDOM.get();
    if random == [0; 2] {
        // SAFETY: writes 16 bytes. Each backend seeds itself, after the postmaster has forked it.
        if !unsafe { pg_sys::pg_strong_random((&raw mut random).cast(), 16) } {
            error!("no random numbers");
        }
    }
    let bits = xoroshiro(&mut random) >> 2;
    RANDOM.set(random);
    let unix = clock::unix_micros(at) as u128;
    let id = (unix / 1_000) << 80
        | 7 << 76
        | (unix % 1_000 * 4_096 / 1_000) << 64
        | 0b10 << 62
        | u128::from(bits);
    id.to_be_bytes()
}

/// xoroshiro128+, by Blackman and Vigna.
fn xoroshiro([a, b]: &mut [u64; 2]) -> u64 {
    let answer = a.wrapping_add(*b);
    *b ^= *a;
    *a = a.rotate_left(24) ^ *b ^ (*b << 16);
    *b = b.rotate_left(37);
    answer
}

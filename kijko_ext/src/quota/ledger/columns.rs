//! The columns of the ledger by position, for code that reads and writes its rows without the executor.

use pgrx::pg_sys::{self, Oid};

/// Number of columns (ledger.sql).
pub const COLUMNS: usize = 13;

pub const TYPES: [Oid; COLUMNS] = [
    pg_sys::UUIDOID,
    pg_sys::UUIDOID,
    pg_sys::TEXTOID,
    pg_sys::TIMESTAMPTZOID,
    pg_sys::INT8OID,
    pg_sys::INT8OID,
    pg_sys::TEXTOID,
    pg_sys::TIMESTAMPTZOID,
    pg_sys::TIMESTAMPTZOID,
    pg_sys::TEXTOID,
    pg_sys::TEXTOID,
    pg_sys::TEXTOID,
    pg_sys::JSONBOID,
];

/// The columns subject, meter and period_start, from 1: every partition has an index on them.
pub const COUNTER_KEY: [i16; 3] = [2, 3, 4];

/// The columns amount and recorded_at, from 1.
pub const AMOUNT: i32 = 5;
pub const RECORDED_AT: i32 = 9;

//! The columns of the ledger by position, for code that reads and writes its rows without the executor.

/// Number of columns (ledger.sql).
pub const COLUMNS: usize = 13;

/// The columns subject, meter and period_start, from 1: every partition has an index on them.
pub const COUNTER_KEY: [i16; 3] = [2, 3, 4];

/// The columns amount and recorded_at, from 0.
pub const AMOUNT: usize = 4;
pub const RECORDED_AT: usize = 8;

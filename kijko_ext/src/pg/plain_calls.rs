//! Functions of Postgres that read variables or the clock and cannot raise an error, called without pgrx's guard: it costs more
//! than they do, and every request and every use of a quota calls them many times.

use pgrx::pg_sys::{Oid, SubTransactionId, TimestampTz};

unsafe extern "C-unwind" {
    #[allow(non_snake_case, reason = "as Postgres calls it")]
    pub safe fn GetCurrentTimestamp() -> TimestampTz;
    #[allow(non_snake_case, reason = "as Postgres calls it")]
    pub safe fn GetCurrentTransactionStartTimestamp() -> TimestampTz;
    #[allow(non_snake_case, reason = "as Postgres calls it")]
    pub safe fn GetCurrentSubTransactionId() -> SubTransactionId;
    #[allow(non_snake_case, reason = "as Postgres calls it")]
    pub safe fn GetSessionUserId() -> Oid;
    #[allow(non_snake_case, reason = "as Postgres calls it")]
    pub safe fn RecoveryInProgress() -> bool;
    #[allow(non_snake_case, reason = "as Postgres calls it")]
    pub safe fn IsInParallelMode() -> bool;
}

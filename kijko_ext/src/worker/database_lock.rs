//! Whether somebody needs a database without connections: DROP DATABASE, ALTER DATABASE RENAME or SET TABLESPACE, and CREATE
//! DATABASE with it as the template. Each locks the database, and then waits five seconds for others to leave.

use pgrx::pg_sys;

/// DEFAULT_LOCKMETHOD of Postgres.
const LOCK_METHOD: u8 = 1;

/// Tries the lock that a connection takes when it begins. In a transaction, whose end releases it.
pub fn is_free(database: pg_sys::Oid) -> bool {
    let tag = pg_sys::LOCKTAG {
        locktag_field1: pg_sys::InvalidOid.to_u32(), // shared by all databases
        locktag_field2: pg_sys::DatabaseRelationId.to_u32(),
        locktag_field3: database.to_u32(),
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
        locktag_lockmethodid: LOCK_METHOD,
    };
    // SAFETY: does not wait.
    let result = unsafe { pg_sys::LockAcquire(&tag, pg_sys::RowExclusiveLock as i32, false, true) };
    result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

//! Whether the extension is in the worker's database, and DROP EXTENSION held off until the worker's transaction ends. DROP takes
//! the lock of the extension before those of its tables, in an order of its own. A worker that took tables first would deadlock.

use pgrx::prelude::*;

/// DEFAULT_LOCKMETHOD of Postgres.
const LOCK_METHOD: u8 = 1;

/// Whether the extension is installed, which it then stays until the transaction ends. An error while somebody is dropping it: a
/// worker does not wait for that, and comes back in a later round.
pub fn is_installed() -> bool {
    let Some(extension) = extension() else {
        return false;
    };
    let tag = pg_sys::LOCKTAG {
        // SAFETY: reads a variable.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: pg_sys::ExtensionRelationId.to_u32(),
        locktag_field3: extension.to_u32(),
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
        locktag_lockmethodid: LOCK_METHOD,
    };
    // SAFETY: does not wait; the end of the transaction releases it.
    let result = unsafe { pg_sys::LockAcquire(&tag, pg_sys::AccessShareLock as i32, false, true) };
    if result == pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL {
        let code = PgSqlErrorCode::ERRCODE_OBJECT_IN_USE;
        ereport!(ERROR, code, "the extension is being dropped");
    }
    // It may have gone before the lock was there.
    // SAFETY: within a transaction.
    unsafe { pg_sys::AcceptInvalidationMessages() };
    self::extension() == Some(extension)
}

fn extension() -> Option<pg_sys::Oid> {
    // SAFETY: a look-up in the catalog.
    let extension = unsafe { pg_sys::get_extension_oid(c"kijko".as_ptr(), true) };
    (extension != pg_sys::InvalidOid).then_some(extension)
}

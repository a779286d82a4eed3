//! Locks on things that are not rows, held until the transaction ends: Postgres' own lock manager, so that deadlocks
//! are found and `pg_locks` shows them (as advisory locks of a class that SQL cannot take).

use std::hash::Hasher;

use pgrx::pg_sys;

/// What is locked; the number keeps the kinds apart.
#[derive(Clone, Copy)]
pub enum Class {
    IdempotencyKey = 0x4b4a,
    Gauge = 0x4b4b,
    Hold = 0x4b4c,
}

/// Nobody else may hold it.
pub fn exclusive(class: Class, subject: &[u8; 16], names: &[&str]) {
    acquire(class, subject, names, pg_sys::ExclusiveLock);
}

/// Others may hold it too, but nobody exclusively.
pub fn shared(class: Class, subject: &[u8; 16], names: &[&str]) {
    acquire(class, subject, names, pg_sys::ShareLock);
}

/// Two that hash alike wait for each other without need, which does no harm.
fn acquire(class: Class, subject: &[u8; 16], names: &[&str], mode: u32) {
    let mut hasher = std::hash::DefaultHasher::new(); // the same in every process
    hasher.write(subject);
    for name in names {
        hasher.write(name.as_bytes());
        hasher.write_u8(0);
    }
    let hash = hasher.finish();
    // SAFETY: a plain lock tag of this database; released with the transaction.
    unsafe {
        let tag = pg_sys::LOCKTAG {
            locktag_field1: pg_sys::MyDatabaseId.to_u32(),
            locktag_field2: (hash >> 32) as u32,
            locktag_field3: hash as u32,
            locktag_field4: class as u16,
            locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
            locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
        };
        pg_sys::LockAcquire(&tag, mode as pg_sys::LOCKMODE, false, false);
    }
}

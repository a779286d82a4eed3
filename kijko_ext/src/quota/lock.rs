//! Locks on objects that are not rows, held until the transaction ends. They are Postgres' own, so deadlocks are detected
//! and `pg_locks` shows them, as advisory locks of classes that SQL cannot use.

use std::hash::Hasher;

use pgrx::pg_sys;

/// The kind of object, as the class of the lock.
#[derive(Clone, Copy)]
pub enum Class {
    IdempotencyKey = 0x4b4a,
    Gauge = 0x4b4b,
    Hold = 0x4b4c,
}

/// Excludes every other holder.
pub fn exclusive(class: Class, subject: &[u8; 16], names: &[&str]) {
    acquire(class, subject, names, pg_sys::ExclusiveLock);
}

/// Excludes exclusive holders.
pub fn shared(class: Class, subject: &[u8; 16], names: &[&str]) {
    acquire(class, subject, names, pg_sys::ShareLock);
}

/// Objects with the same hash wait for each other without need, which is harmless.
fn acquire(class: Class, subject: &[u8; 16], names: &[&str], mode: u32) {
    let mut hasher = std::hash::DefaultHasher::new(); // the same in every process
    hasher.write(subject);
    for name in names {
        hasher.write(name.as_bytes());
        hasher.write_u8(0);
    }
    let hash = hasher.finish();
    // SAFETY: a plain lock tag of this database, released at the end of the transaction.
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

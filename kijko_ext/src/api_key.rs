//! API keys: who calls with one, and what it may do.
//!
//! - format.rs (pure) makes keys and checks their checksum.
//! - record.rs (pure) is what the extension stores about a key, and whether it counts.
//! - lookup.rs finds a key by its hash or id, by the newest snapshot.
//! - calling.rs has the key that makes this transaction's request.
//! - issued.rs keeps the secrets that this transaction has generated.
//! - last_use.rs notes in shared memory when a key was used; last_use_writer.rs writes that to kijko.api_key_uses.
//! - sql.rs has the SQL functions, api_key.sql the tables.
//!
//! request/authenticate.rs identifies the key of a request.

pub mod calling;
pub mod format;
mod issued;
pub mod last_use;
pub mod last_use_writer;
pub mod lookup;
pub mod record;
pub mod sql;

//! Signed tokens: RS256, ES256 or EdDSA, by the kind of the key. Only the server process reads the file of private keys
//! (../key_file.rs). key.rs signs and verifies by one key, keys.rs by those of the file, access.rs checks the claims of an access
//! token, sql.rs has the SQL functions.
//! No key is symmetric, so nothing that SQL can read can sign.

pub mod access;
mod key;
mod keys;
pub mod sql;

//! Signed tokens, with keys from a file that only the server process reads: RS256, ES256 or EdDSA by the kind of the key.
//! keys.rs holds the keys and the rules, access.rs says what an access token looks like, edge.rs has the SQL functions.
//! Nothing symmetric exists, so nothing that SQL can read can sign.

pub mod access;
pub mod edge;
mod keys;

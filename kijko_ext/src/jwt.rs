//! Signed tokens: ES256 only, with keys from a file that only the server process reads. keys.rs holds the keys and the
//! rules, edge.rs the SQL functions. Nothing symmetric exists, so nothing that SQL can read can sign.

pub mod edge;
mod keys;

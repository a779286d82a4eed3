//! Signed tokens: our own, and those of outside issuers. All are verified in the same steps: token.rs reads a token strictly,
//! jwk.rs verifies its signature by a key of one algorithm, and rules.rs checks its times, issuer and audience. token_error.rs
//! has the reasons for a refusal, strict_json.rs the JSON.
//!
//! Our own are signed by RS256, ES256 or EdDSA, by the kind of the key. Only the server process reads the file of private keys
//! (../key_file.rs). key.rs signs and verifies by one key, keys.rs by those of the file, access.rs checks the claims of an access
//! token, sql.rs has the SQL functions. No key of ours is symmetric, so nothing that SQL can read can sign.

pub mod access;
pub mod jwk;
mod key;
mod keys;
pub mod rules;
pub mod sql;
pub mod strict_json;
pub mod token;
pub mod token_error;

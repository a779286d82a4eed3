//! Sealed text: authenticated encryption of a short secret, bound to a context that says where it belongs. Only the server
//! process reads the file of keys. keys.rs has the keys, envelope.rs the format, sql.rs the SQL functions.
//!
//! 1. `seal` pads the plaintext, encrypts it by AES-256-GCM-SIV with the first key of the file and a random nonce, and
//!    writes `kjs1.<key id>.<base64url>`. Version, key id and context are authenticated beside it.
//! 2. `unseal` chooses the key by the id in the text. Another context, key or byte ends in one error, `cannot_unseal`.
//! 3. `reseal` opens and seals again by the first key. What is sealed by it already comes back as it is.

mod envelope;
mod keys;
pub mod sql;

pub use sql::open;

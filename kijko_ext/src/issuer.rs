//! Outside issuers: login servers that organizations have enrolled. A token of one is a user of its organization, and nothing more.
//!
//! 1. `kijko.put_issuer()` stores an issuer and asks the outbox for its discovery document. `../outbox/issuers.rs` has the worker
//!    go on from there: the document names the key set, which is fetched next and kept (`document.rs` reads both). It is fetched again when
//!    its time is over, and when a token names a key that is not in it. While an issuer does not answer, its last keys stay.
//! 2. A request's token is in a header that only the proxy sets. `../request/issuer_token.rs` finds the issuer (`lookup.rs`),
//!    verifies the token by its keys, and reads the role out of the claims (`mapping.rs`).
//! 3. `caller.rs` keeps who that is until the transaction ends. The domain looks whether the user may go on, and then makes it the
//!    caller by `kijko.assume_issuer_user()`. A subject without a user is unauthenticated until it is
//!    provisioned.

pub mod caller;
pub mod document;
pub mod lookup;
pub mod mapping;

/// The proxy moves tokens that are not ours there, and takes it away from clients.
pub const TOKEN_HEADER: &str = "x-kijko-token";

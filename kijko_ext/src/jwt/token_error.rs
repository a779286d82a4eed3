//! Why a token is refused. Each reason has a stable name for SQL: callers compare it.

use thiserror::Error;

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TokenError {
    /// More bytes than any token needs.
    #[error("too_large")]
    TooLarge,
    /// Not three parts of canonical base64url with JSON objects, each member once.
    #[error("malformed")]
    Malformed,
    /// The header asks for something that would change what is verified: crit, b64, zip, or a key of its own.
    #[error("header_not_allowed")]
    HeaderNotAllowed,
    /// The header's type is not that of an access or identity token.
    #[error("type_not_allowed")]
    TypeNotAllowed,
    /// none, or an algorithm that is not supported.
    #[error("algorithm_not_allowed")]
    AlgorithmNotAllowed,
    /// What should be a JSON Web Key Set is none.
    #[error("keys_invalid")]
    KeysInvalid,
    #[error("key_unknown")]
    KeyUnknown,
    /// The token names no key, and several could have signed it.
    #[error("key_ambiguous")]
    KeyAmbiguous,
    /// The key is too short, not on its curve, malformed, or not for signatures.
    #[error("key_unusable")]
    KeyUnusable,
    /// The key is one for another algorithm.
    #[error("algorithm_mismatch")]
    AlgorithmMismatch,
    #[error("signature_invalid")]
    SignatureInvalid,
    /// A registered claim has the wrong type, for example a time in a string.
    #[error("claims_malformed")]
    ClaimsMalformed,
    #[error("expiry_missing")]
    ExpiryMissing,
    #[error("expired")]
    Expired,
    #[error("not_yet_valid")]
    NotYetValid,
    #[error("issued_in_future")]
    IssuedInFuture,
    #[error("issuer_mismatch")]
    IssuerMismatch,
    #[error("audience_mismatch")]
    AudienceMismatch,
}

//! Why nothing was fetched, and what the owner of the repository learns.

use kijko_core::jobs::Failure;

/// Why nothing was fetched. The texts name no address and no token.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL may not be fetched.
    #[error("the repository's address cannot be used: {0}")]
    Address(String),
    /// 404 and the like.
    #[error("there is no such repository")]
    NotFound,
    /// 401 and 403.
    #[error(
        "the provider refuses: the repository is private or there is none, or the connection may not read it"
    )]
    Denied,
    /// No such branch.
    #[error("the repository has no such branch")]
    BranchNotFound,
    /// More bytes than allowed.
    #[error("the repository has more than {0} bytes")]
    TooLarge(u64),
    /// Another status.
    #[error("the provider answers with status {0}")]
    Status(u16),
    /// An answer that is no git.
    #[error("the provider's answer is none of git: {0}")]
    Protocol(&'static str),
    /// The server's own words.
    #[error("the provider refuses: {0}")]
    Refused(String),
    /// No connection, or it broke off.
    #[error("the provider cannot be reached: {0}")]
    Broken(String),
    /// Not silence, and hardly more.
    #[error("the provider sends less than {0} bytes in a second")]
    TooSlow(u64),
    /// Silence.
    #[error("the provider is silent")]
    TimedOut,
    /// The disk.
    #[error("the pack cannot be written: {0}")]
    Disk(#[from] std::io::Error),
}

impl From<reqwest::Error> for FetchError {
    /// Without the URL, and with the causes: a connection that the guard refuses is among them.
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::TimedOut;
        }
        let error = error.without_url();
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            let more = error.to_string();
            if more.contains(&kijko_guard::Refused::Address.to_string()) {
                return Self::Address(more);
            }
            text = more;
            cause = error.source();
        }
        Self::Broken(text)
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        let text = error.to_string();
        match error {
            FetchError::Address(_) => Self::permanent("host_not_allowed", text),
            FetchError::NotFound => Self::permanent("repository_not_found", text),
            FetchError::Denied => Self::permanent("authentication_failed", text),
            FetchError::BranchNotFound => Self::permanent("branch_not_found", text),
            FetchError::TooLarge(_) => Self::permanent("repository_too_large", text),
            FetchError::Protocol(_) => Self::permanent("fetch_failed", text),
            FetchError::Status(status) if status < 500 && status != 429 => {
                Self::permanent("fetch_failed", text)
            }
            FetchError::Status(_) | FetchError::Refused(_) | FetchError::Broken(_) => {
                Self::transient("fetch_failed", text)
            }
            FetchError::TooSlow(_) => Self::permanent("fetch_timeout", text),
            FetchError::TimedOut => Self::transient("fetch_timeout", text),
            FetchError::Disk(error) => {
                tracing::error!(%error, "the cache cannot be written");
                Self::internal()
            }
        }
    }
}

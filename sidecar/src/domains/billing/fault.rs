//! Why a command of an operator failed.

use kijko_core::{config::ConfigError, db::DbError};

use super::client::StripeError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    #[error(transparent)]
    Settings(#[from] ConfigError),
    #[error("STRIPE_API_KEY is not set")]
    NoAccount,
    #[error("the program cannot start: {0}")]
    Start(String),
    #[error(transparent)]
    Database(#[from] DbError),
    #[error(transparent)]
    Stripe(#[from] StripeError),
}

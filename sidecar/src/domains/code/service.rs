//! What all routes of code need.

use axum::http::HeaderMap;
use kijko_core::error::Error;

use super::search::Search;
use crate::api::{Api, NotGranted};

/// Answers questions as their callers.
#[derive(Debug, Clone)]
pub(super) struct Code {
    /// None: not configured.
    pub api: Option<Api>,
    pub search: Search,
    pub max_body_bytes: usize,
}

/// An answer of the API, and what it says of limits.
pub(super) type Answer<T> = Result<(T, HeaderMap), NotGranted>;

impl Code {
    pub(super) fn api(&self) -> Result<&Api, Error> {
        Api::configured(self.api.as_ref())
    }
}

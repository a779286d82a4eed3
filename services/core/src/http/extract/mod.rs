//! What handlers read from a request.

pub mod body;

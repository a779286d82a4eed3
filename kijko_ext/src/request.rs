//! Admits a request before any of it runs: rate limits by policy, the quota of requests, counting, headers.
//!
//! Bottom up:
//!
//! - policy.rs (pure) decides which policies apply, policy_cache.rs caches policies and tiers in each backend, and
//!   membership_cache.rs the organization of each member.
//! - issuer_token.rs verifies the token of an outside issuer. authenticate.rs identifies the API key of a request, read_only_key.rs keeps a key that only reads from writing.
//! - token.rs checks that the token is an access token, header_check.rs and preferences.rs (pure) check the headers.
//! - response_headers.rs (pure) builds the headers of the response; limit_headers.rs adds those of a use of a quota.
//! - connection_time.rs bounds the connections that a caller and a tenant hold, with the table of in_flight.rs and the shares
//!   of connection_pool.rs (pure). brief.rs refuses a request that takes too long for what is left.
//! - statement_timeout.rs sets the tier's statement timeout.
//! - actors.rs keeps whose the latest requests were, for the log of the proxy.
//! - admit.rs is `kijko.admit_request`; external.rs is `kijko.admit_external`, for requests that another server takes.
//!
//! statement.rs checks the statement after Postgres has analysed it, memory_limit.rs its memory while it runs, error_log.rs
//! keeps errors of clients from filling the log, log_context.rs says in each line whose request it is, activity.rs names it in
//! `pg_stat_activity`, and counters.rs has the figures.

mod activity;
pub mod actors;
mod admit;
mod authenticate;
pub mod brief;
mod connection_pool;
mod connection_time;
pub mod counters;
pub mod error_log;
mod external;
mod header_check;
pub mod in_flight;
mod issuer_token;
mod known;
mod limit_headers;
mod log_context;
mod membership_cache;
pub mod memory_limit;
mod policy;
mod policy_cache;
mod preferences;
pub mod read_only_key;
mod response_headers;
pub mod statement;
mod statement_timeout;
pub mod token;

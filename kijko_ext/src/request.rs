//! A request's admission, before anything of it runs: rate limits by policy, the quota of requests, counting, headers.
//!
//! From the bottom up: what a policy is and which apply (policy.rs, pure), what a backend knows of the tables (cache.rs),
//! what the client is told (told.rs, pure; verdict.rs for uses of quotas), whose request it is where the domain has said so
//! before (member.rs), whether its token is an access token (token.rs),
//! its headers (preferences.rs, pure; wellformed.rs), its statement timeout (statement_time.rs), the time for which it holds a connection
//! (connection_time.rs, in_flight.rs), `kijko.admit_request`
//! (admit.rs), and `kijko.admit_outside` for requests that another server takes (outside.rs). The statement itself is checked
//! after Postgres has analysed it (statement.rs), and its memory while it runs (memory.rs).

mod admit;
mod cache;
mod connection_time;
pub mod in_flight;
mod member;
pub mod memory;
mod outside;
mod policy;
mod preferences;
pub mod statement;
mod statement_time;
pub mod stats;
pub mod token;
mod told;
mod verdict;
mod wellformed;

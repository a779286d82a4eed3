//! A request's admission, before anything of it runs: rate limits by policy, the quota of requests, counting, headers.
//!
//! From the bottom up: what a policy is and which apply (policy.rs, pure), what a backend knows of the tables (cache.rs),
//! what the client is told (told.rs, pure), failing without failing the request (attempt.rs), and `kijko.admit_request`
//! (admit.rs).

mod admit;
mod attempt;
mod cache;
mod policy;
pub mod stats;
mod told;

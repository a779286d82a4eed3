//! A request's admission, before anything of it runs: rate limits by policy, the quota of requests, counting, headers.
//!
//! From the bottom up: what a policy is and which apply (policy.rs, pure), what a backend knows of the tables (cache.rs),
//! what the client is told (told.rs, pure; verdict.rs for uses of quotas), failing without failing the request (attempt.rs),
//! whose request it is where the domain has said so before (member.rs), `kijko.admit_request` (admit.rs), and
//! `kijko.admit_outside` for requests that another server takes (outside.rs).

mod admit;
mod attempt;
mod cache;
mod member;
mod outside;
mod policy;
pub mod stats;
mod told;
mod verdict;

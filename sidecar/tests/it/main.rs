//! Tests outside the crate: vendors on the wire, the sandbox as a real process, the worker against a real database.
//!
//! The database-backed ones need `KIJKO_TEST_DATABASE_URL` (role `kijko_sidecar`) and `KIJKO_TEST_ADMIN_DATABASE_URL`
//! (superuser), which `./kijko test sidecar` sets, and fail without them. They share the database with a running sidecar: each uses
//! an organization and, where jobs are claimed, a kind of its own.

mod database;
mod executions;
mod fakes;
mod limits;
mod process;
mod sandbox;
mod support;
mod trouble;
mod vendors;
mod worker;

//! Tests outside the crate: vendors on the wire, the sandbox as a real process, executions and webhooks against a real database.
//!
//! The database-backed ones need `KIJKO_TEST_DATABASE_URL` (role `kijko_sidecar`) and `KIJKO_TEST_ADMIN_DATABASE_URL`
//! (superuser), which `./kijko test sidecar` sets, and fail without them. They share the database with a running sidecar: each uses
//! an organization of its own, and jobs that its own worker holds from the start.

mod database;
mod executions;
mod fakes;
mod limits;
mod process;
mod sandbox;
#[path = "../../../services/core/tests/it/support.rs"]
mod support;
mod vendors;

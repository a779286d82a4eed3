//! Tests against a real database: the pool, the listener, the worker.
//!
//! They need `KIJKO_TEST_DATABASE_URL` (role `kijko_sidecar`) and `KIJKO_TEST_ADMIN_DATABASE_URL` (superuser), which
//! `./kijko test sidecar` sets, and fail without them. They share the database with a running sidecar: each has an organization
//! and, where jobs are claimed, a kind of its own.

mod database;
mod support;
mod worker;

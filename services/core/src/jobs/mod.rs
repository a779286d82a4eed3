//! Running queued jobs: claim, keep the lease alive, run, record.
//!
//! The queue lives in Postgres; this is one of possibly many workers. A job is ours while its lease lasts. Every call that
//! records something names worker and attempt, so a worker that lost its lease can no longer change the job.
//!
//! - [`job`]: a claimed job, and how it can fail.
//! - [`queue`]: the calls of the database functions; [`result_batch`] records results that are ready at once by one call.
//! - [`registry`]: the kinds of jobs that this service runs, each with a typed payload and a handler.
//! - [`leases`]: the jobs that run here and how they are stopped; [`heartbeat`] extends their leases.
//! - [`runner`]: one job from start to record.
//! - [`slots`]: how many jobs run at once, and which slots are left free for short ones.
//! - [`worker`]: the loop that claims, and the end of it all at shutdown.
//! - [`metrics`] and [`checks`]: what operators see.
//!
//! The engine knows no kind of job: domains register theirs.

pub mod checks;
pub mod config;
pub mod heartbeat;
pub mod job;
pub mod leases;
pub mod metrics;
pub mod queue;
pub mod registry;
mod result_batch;
pub mod runner;
pub mod slots;
pub mod worker;

pub use config::WorkerConfig;
pub use job::{Failure, HandlerError, Job};
pub use queue::Queue;
pub use registry::{Handler, JobClass, JobKind, Registry};
pub use worker::Worker;

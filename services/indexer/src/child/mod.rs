//! The child of one job: a process of its own, so that a hostile repository harms only its own job.
//!
//! It is this same program with another argument. It has no environment, no network and no files but the repository's folder, its
//! memory and time have limits of the kernel, and it dies with its parent. The parent asks and the child answers, by frames over
//! standard input and output:
//!
//! 1. [`Request::Open`]: index the new pack and list the files that differ.
//! 2. [`Request::Page`]: the next page of them, until there are none.
//! 3. [`Request::Parse`]: the files of some blobs. Answered by one [`Reply::Blob`] each, in the same order.
//!
//! The parent believes nothing of it: it checks ids and hashes what it stores.

mod classify;
mod files;
mod frames;
mod process;
mod repository;
mod sandbox;
mod tree;
mod work;

use std::{io, process::ExitCode};

pub use classify::Expected;
pub use files::Filter;
pub use frames::{Blob, Entry, File, Listed, Open, Reply, Request};
pub use process::{Child, ChildError, SELF};

/// The argument that makes this program the child.
pub const ARGUMENT: &str = "parse";

/// Runs the child: memory in MiB and time in seconds are its arguments.
pub fn main(arguments: &[&str]) -> ExitCode {
    let numbers: Option<Vec<u64>> = arguments.iter().map(|text| text.parse().ok()).collect();
    let Some([memory, seconds]) = numbers.as_deref() else {
        eprintln!("{ARGUMENT} is what the indexer starts for itself");
        return ExitCode::from(2);
    };
    let done = sandbox::limit(memory << 20, *seconds)
        .and_then(|()| work::run(&mut io::stdin().lock(), &mut io::stdout().lock()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

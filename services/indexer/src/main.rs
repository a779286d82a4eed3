//! The indexer: read the settings, run, report why it ended. With `parse` it is the child of one job instead.

use std::process::ExitCode;

use kijko_core::{Settings, program};
use kijko_indexer::{child, domain, service::SERVICE};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [_, child::ARGUMENT, ref rest @ ..] => child::main(rest),
        ref all => program::main(SERVICE, all.get(1).copied(), || {
            Settings::from_lookup(SERVICE, &[domain::from_env], &setting)
        }),
    }
}

/// Its own number of jobs and seconds, since it shares its environment with the sidecar: a job is a process with the memory of
/// `KIJKO_INDEXER_MEMORY_MIB`, and a commit of many files is one statement.
fn setting(name: &str) -> Option<String> {
    let own = |name: &str, default: &str| {
        let set = std::env::var(name)
            .ok()
            .filter(|value| !value.trim().is_empty());
        Some(set.unwrap_or_else(|| default.to_owned()))
    };
    match name {
        "KIJKO_WORKER_CONCURRENCY" => own("KIJKO_INDEXER_CONCURRENCY", "2"),
        "KIJKO_DB_TIMEOUT_SECONDS" => own("KIJKO_INDEXER_DB_TIMEOUT_SECONDS", "300"),
        name => std::env::var(name).ok(),
    }
}

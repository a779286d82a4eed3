//! The storage service: read the settings, run, report why it ended. With `check` it compares rows and bytes instead.

use std::process::ExitCode;

use kijko_core::{Settings, program};
use kijko_storage::{check, domain, service::SERVICE};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [_, "check", ref rest @ ..] => check::main(rest),
        ref all => program::main(SERVICE, all.get(1).copied(), || {
            Settings::from_env(SERVICE, &[domain::from_env])
        }),
    }
}

//! The sidecar: read the settings, run the service, report why it ended. As the sandbox it is its own child.

use std::process::ExitCode;

use kijko_core::program;
use kijko_sidecar::{app, domains::billing, sandbox};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [_, sandbox::ARGUMENT, ..] => sandbox::child_main(),
        [_, billing::command::ARGUMENT, ref rest @ ..] => billing::command::main(rest),
        ref all => program::main(app::SERVICE, all.get(1).copied(), app::settings),
    }
}

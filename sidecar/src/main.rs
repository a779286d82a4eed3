//! The sidecar: read the settings, run the service, report why it ended. As the sandbox it is its own child. As the reader of the
//! log of requests it does that alone, beside a proxy that shares no folder with the others.

use std::process::ExitCode;

use kijko_core::program;
use kijko_sidecar::{app, domains::billing, sandbox};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [_, sandbox::ARGUMENT, ..] => sandbox::child_main(),
        [_, billing::command::ARGUMENT, ref rest @ ..] => billing::command::main(rest),
        [_, app::REQUESTS] => program::main(app::SERVICE, None, app::request_settings),
        ref all => program::main(app::SERVICE, all.get(1).copied(), app::settings),
    }
}

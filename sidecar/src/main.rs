//! The sidecar: read the settings, run the service, report why it ended. As the sandbox it is its own child.

use std::process::ExitCode;

use kijko_core::program;
use kijko_sidecar::{app, domains::billing, sandbox};

fn main() -> ExitCode {
    let argument = std::env::args().nth(1);
    match argument.as_deref() {
        Some(sandbox::ARGUMENT) => sandbox::child_main(),
        Some(billing::command::ARGUMENT) => {
            billing::command::main(&std::env::args().skip(2).collect::<Vec<_>>())
        }
        argument => program::main(app::SERVICE, argument, app::settings),
    }
}

//! The sidecar: read the settings, run the service, report why it ended. As the sandbox it is its own child.

use std::process::ExitCode;

use kijko_core::program;
use kijko_sidecar::{app, sandbox};

fn main() -> ExitCode {
    let argument = std::env::args().nth(1);
    match argument.as_deref() {
        Some(sandbox::ARGUMENT) => sandbox::child_main(),
        argument => program::main(app::SERVICE, argument, app::settings),
    }
}

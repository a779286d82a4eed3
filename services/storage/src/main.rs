//! The storage service: read the settings, run, report why it ended.

use std::process::ExitCode;

use kijko_core::{Settings, program};
use kijko_storage::{domain, service::SERVICE};

fn main() -> ExitCode {
    let argument = std::env::args().nth(1);
    program::main(SERVICE, argument.as_deref(), || {
        Settings::from_env(SERVICE, &[domain::from_env])
    })
}

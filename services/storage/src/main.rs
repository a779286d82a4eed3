//! The storage service: read the settings, run, report why it ended. With `check` it compares rows and bytes instead.

use std::process::ExitCode;

use kijko_core::{Settings, program};
use kijko_storage::{check, domain, service::SERVICE};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [first, rest @ ..] = &arguments[..]
        && first == "check"
    {
        return check::main(rest);
    }
    program::main(SERVICE, arguments.first().map(String::as_str), || {
        Settings::from_env(SERVICE, &[domain::from_env])
    })
}

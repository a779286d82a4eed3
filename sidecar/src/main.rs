//! The sidecar: read the settings, run the service, report why it ended.

use std::process::ExitCode;

use kijko_core::{StartError, telemetry::logs};
use kijko_sidecar::{app, sandbox};

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => serve(),
        Some("--version") => {
            println!("kijko-sidecar {}", kijko_sidecar::VERSION);
            ExitCode::SUCCESS
        }
        Some(sandbox::ARGUMENT) => sandbox::child_main(),
        Some(other) => {
            eprintln!(
                "kijko-sidecar takes no argument {other:?}; it is configured by its environment (docs/reference/settings.md)"
            );
            ExitCode::from(2)
        }
    }
}

fn serve() -> ExitCode {
    let settings = match app::settings() {
        Ok(settings) => settings,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(2);
        }
    };
    logs::init(&settings.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(kijko_core::run(settings)),
        Err(error) => Err(StartError::Runtime(error)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the service failed");
            ExitCode::FAILURE
        }
    }
}

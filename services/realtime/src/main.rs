//! The realtime service: read the settings, run, report why it ended.

use std::process::ExitCode;

use kijko_core::{Settings, StartError, telemetry::logs};
use kijko_realtime::{domain, service::SERVICE};

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => serve(),
        Some("--version") => {
            println!("kijko-realtime {}", kijko_realtime::VERSION);
            ExitCode::SUCCESS
        }
        Some(other) => {
            eprintln!(
                "kijko-realtime takes no argument {other:?}; it is configured by its environment (docs/reference/settings.md)"
            );
            ExitCode::from(2)
        }
    }
}

fn serve() -> ExitCode {
    let settings = match Settings::from_env(SERVICE, &[domain::from_env]) {
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

//! The sidecar's table of contents: read the configuration, start each part, wait for the end, stop each part.

use std::process::ExitCode;

use kijko_sidecar::{app, config::Config, sandbox, telemetry};

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
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(2);
        }
    };
    telemetry::logs::init(&config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(app::run(config)),
        Err(error) => Err(app::AppError::Runtime(error)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the sidecar ends");
            ExitCode::FAILURE
        }
    }
}

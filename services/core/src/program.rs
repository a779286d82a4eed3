//! The main function of a service.

use std::process::ExitCode;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::{
    StartError,
    config::ConfigError,
    service::Service,
    settings::Settings,
    telemetry::{logs, sentry::Sentry},
};

/// Runs a service whose program was called with `argument`: none, or `--version`. Exits 0 when it was asked to end, 1 when it
/// failed, 2 for an argument or a setting that it cannot use.
pub fn main(
    service: Service,
    argument: Option<&str>,
    settings: impl FnOnce() -> Result<Settings, ConfigError>,
) -> ExitCode {
    let name = service.name;
    match argument {
        None => serve(settings),
        Some("--version") => {
            println!("{name} {}", service.version);
            ExitCode::SUCCESS
        }
        Some(other) => {
            eprintln!(
                "{name} takes no argument {other:?}; it is configured by its environment (docs/reference/settings.md)"
            );
            ExitCode::from(2)
        }
    }
}

fn serve(settings: impl FnOnce() -> Result<Settings, ConfigError>) -> ExitCode {
    // Its environment has passwords, and processes that read what strangers have written run as the same user. No other process of
    // that user reads it then, nor its memory; and it leaves no core file.
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        eprintln!("the environment cannot be hidden from other processes: {error}");
        return ExitCode::FAILURE;
    }
    let settings = match settings() {
        Ok(settings) => settings,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(2);
        }
    };
    let reports = settings.sentry.as_ref();
    let reports = reports.map(|config| Sentry::start(settings.service, config));
    let (reports, problem) = match reports.transpose() {
        Ok(reports) => (reports, None),
        Err(problem) => (None, Some(problem)),
    };
    logs::init(&settings.log, reports.as_ref().map(Sentry::layer));
    if let Some(error) = problem {
        tracing::warn!(%error, "errors are not reported");
    }
    let status = run(settings);
    // Last: also why it failed.
    if let Some(reports) = reports {
        reports.finish();
    }
    status
}

fn run(settings: Settings) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(crate::run(settings)),
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

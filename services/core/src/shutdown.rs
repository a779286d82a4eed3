//! Stopping on SIGTERM and SIGINT: the first signal lets running work finish, the second ends the process at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels `stop` at the first SIGTERM or SIGINT and ends the process at the second.
pub fn on_signals(stop: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let name = first_of(&mut terminate, &mut interrupt).await;
        tracing::info!(
            signal = name,
            "stopping: no new jobs, running ones may finish"
        );
        stop.cancel();
        let name = first_of(&mut terminate, &mut interrupt).await;
        tracing::warn!(
            signal = name,
            "a second signal: ending now; the leases will expire"
        );
        std::process::exit(130);
    });
    Ok(())
}

async fn first_of(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

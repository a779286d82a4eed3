//! One request for a document at a time of a host, with a pause between two. robots.txt and redirectors of vendors take no turn.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::OwnedMutexGuard, time::Instant};

/// Hosts that were asked lately.
const MAX_KNOWN: usize = 10_000;

/// When each host may be asked again.
#[derive(Debug, Default)]
pub(super) struct Hosts(Mutex<HashMap<String, Arc<tokio::sync::Mutex<Instant>>>>);

/// The turn of a request; it ends when it is dropped, and the pause begins.
#[derive(Debug)]
pub(super) struct HostTurn {
    next: OwnedMutexGuard<Instant>,
    pause: Duration,
}

impl Hosts {
    /// Waits until the host may be asked.
    pub(super) async fn turn(&self, host: &str, pause: Duration) -> HostTurn {
        let next = {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MAX_KNOWN {
                let now = Instant::now();
                // Those that nobody uses and whose pause is over.
                known.retain(|_, next| {
                    Arc::strong_count(next) > 1 || next.try_lock().is_ok_and(|it| *it > now)
                });
            }
            let made = || Arc::new(tokio::sync::Mutex::new(Instant::now()));
            known.entry(host.to_owned()).or_insert_with(made).clone()
        };
        let next = next.lock_owned().await;
        if *next > Instant::now() {
            tokio::time::sleep_until(*next).await;
        }
        HostTurn { next, pause }
    }
}

impl Drop for HostTurn {
    fn drop(&mut self) {
        *self.next = Instant::now() + self.pause;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_host_has_one_turn_at_a_time_and_a_pause_and_leaves_the_others() {
        let hosts = Hosts::default();
        let pause = Duration::from_millis(80);
        let turn = hosts.turn("a", pause).await;
        assert!(hosts.turn("a", pause).now_or_never().is_none());
        assert!(hosts.turn("b", pause).now_or_never().is_some());
        let ended = Instant::now();
        drop(turn);
        hosts.turn("a", pause).await;
        assert!(ended.elapsed() >= pause, "{:?}", ended.elapsed());
    }
}

//! What operators see of the machine: disks, the certificate of the API, and WAL that replication slots hold back.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use futures_util::future::BoxFuture;
use kijko_core::{
    certificate,
    config::Reader,
    db::Db,
    telemetry::metrics::{EncodeLabelSet, Gauges, Registry, Series, Unit},
};

use super::store;

type NoLabels = [(&'static str, &'static str); 0];

/// A certificate changes once in months.
const CERTIFICATE_HOLDS: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DiskLabels {
    folder: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

/// What is looked at.
#[derive(Debug, Default, PartialEq)]
pub(super) struct MachineConfig {
    /// Names and folders.
    folders: Vec<(String, PathBuf)>,
    /// `host:port` of the server whose certificate clients see.
    certificate: Option<String>,
}

impl MachineConfig {
    /// `KIJKO_DISK_FOLDERS` and `KIJKO_CERTIFICATE_ADDRESS`.
    pub(super) fn read(env: &mut Reader<'_>) -> Self {
        let text = env.text("KIJKO_DISK_FOLDERS").unwrap_or_default();
        let mut folders = Vec::new();
        for word in text.split_whitespace() {
            match word.split_once('=') {
                Some((name, path)) if !name.is_empty() && path.starts_with('/') => {
                    folders.push((name.to_owned(), PathBuf::from(path)));
                }
                _ => env.problem(
                    "KIJKO_DISK_FOLDERS",
                    "must be like data=/var/lib/kijko logs=/var/log",
                ),
            }
        }
        let certificate = env.text("KIJKO_CERTIFICATE_ADDRESS");
        let is_address = certificate.as_ref().is_none_or(|address| {
            let parts = address.rsplit_once(':');
            parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        });
        if !is_address {
            env.problem(
                "KIJKO_CERTIFICATE_ADDRESS",
                "must be like api.example.com:443",
            );
        }
        Self {
            folders,
            certificate,
        }
    }
}

/// When the certificate was looked at, and when it ends.
type Seen = (Instant, Option<i64>);

pub(super) struct MachineSeries {
    config: MachineConfig,
    db: Db,
    disks: Gauges<DiskLabels>,
    certificate: Gauges<NoLabels>,
    retained: Gauges<StateLabels>,
    seen: Mutex<Option<Seen>>,
}

impl MachineSeries {
    pub(super) fn new(config: MachineConfig, db: Db) -> Self {
        Self {
            config,
            db,
            disks: Gauges::default(),
            certificate: Gauges::default(),
            retained: Gauges::default(),
            seen: Mutex::default(),
        }
    }

    fn look_at_disks(&self) {
        self.disks.clear();
        for (name, path) in &self.config.folders {
            // A folder that cannot be looked at has no sample.
            let Ok(found) = rustix::fs::statvfs(path) else {
                continue;
            };
            for (state, blocks) in [("free", found.f_bavail), ("size", found.f_blocks)] {
                let folder = name.clone();
                let gauge = self.disks.get_or_create(&DiskLabels { folder, state });
                gauge.set(blocks as f64 * found.f_frsize as f64);
            }
        }
    }

    async fn look_at_certificate(&self) {
        self.certificate.clear();
        let Some(address) = self.config.certificate.clone() else {
            return;
        };
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = match seen.filter(|(at, _)| at.elapsed() < CERTIFICATE_HOLDS) {
            Some((_, ends)) => ends,
            None => {
                let looked =
                    tokio::task::spawn_blocking(move || certificate::expiry(&address)).await;
                let looked = looked.map_err(std::io::Error::other).and_then(|it| it);
                if let Err(error) = &looked {
                    tracing::warn!(%error, "the certificate of the API cannot be seen");
                }
                let ends = looked.ok();
                *self.seen.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some((Instant::now(), ends));
                ends
            }
        };
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        if let Some(ends) = ends {
            let left = ends as f64 - now.as_secs_f64();
            self.certificate.get_or_create(&[]).set(left);
        }
    }

    async fn look_at_replication(&self) {
        let found = store::retained(&self.db).await;
        self.retained.clear();
        match found {
            Ok((used, unused)) => {
                for (state, bytes) in [("used", used), ("unused", unused)] {
                    self.retained
                        .get_or_create(&StateLabels { state })
                        .set(bytes as f64);
                }
            }
            Err(error) => tracing::warn!(%error, "metrics without replication slots"),
        }
    }
}

impl Series for MachineSeries {
    fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "disk",
            "Size of the file systems of folders, and what is free for our user",
            Unit::Bytes,
            self.disks.clone(),
        );
        registry.register_with_unit(
            "certificate_remaining",
            "Until the certificate of the API ends",
            Unit::Seconds,
            self.certificate.clone(),
        );
        registry.register_with_unit(
            "replication_retained",
            "WAL that replication slots hold back at most, by whether they are used",
            Unit::Bytes,
            self.retained.clone(),
        );
    }

    fn refresh(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.look_at_disks();
            tokio::join!(self.look_at_certificate(), self.look_at_replication());
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kijko_core::telemetry::metrics::Metrics;

    use super::*;
    use crate::app::{SERVICE, test::context};

    fn read(folders: &str, certificate: &str) -> Option<MachineConfig> {
        let lookup = |name: &str| match name {
            "KIJKO_DISK_FOLDERS" => Some(folders.to_owned()),
            "KIJKO_CERTIFICATE_ADDRESS" => Some(certificate.to_owned()),
            _ => None,
        };
        let mut env = Reader::new(SERVICE, &lookup);
        let config = MachineConfig::read(&mut env);
        env.finish(Some(config)).ok()
    }

    #[test]
    fn folders_have_names_and_the_certificate_a_port() {
        assert_eq!(read("", ""), Some(MachineConfig::default()));
        let both = read("data=/a logs=/b=c", "[::1]:443").unwrap();
        assert_eq!(both.folders[1], ("logs".to_owned(), PathBuf::from("/b=c")));
        for (folders, certificate) in [
            ("data", ""),
            ("=/a", ""),
            ("data=a", ""),
            ("", "host"),
            ("", ":443"),
            ("", "host:x"),
        ] {
            assert_eq!(read(folders, certificate), None, "{folders} {certificate}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_is_away_and_a_server_that_is_silent_have_no_samples() {
        let config = read("root=/ away=/nowhere/at/all", "127.0.0.1:1").unwrap();
        let series = Arc::new(MachineSeries::new(config, context().db));
        let text = Metrics::new(SERVICE, vec![series]).scrape().await.unwrap();
        let size = text
            .lines()
            .find_map(|line| line.strip_prefix("kijko_disk_bytes{folder=\"root\",state=\"size\"} "))
            .unwrap();
        assert!(size.parse::<f64>().unwrap() > 1e6);
        assert!(!text.contains("away"));
        assert!(!text.contains("kijko_certificate_remaining_seconds{"));
        assert!(!text.contains("kijko_replication_retained_bytes{"));
    }
}

//! The folder of the cache, limits, and hosts.

use std::{path::PathBuf, time::Duration};

use kijko_core::config::Reader;
use kijko_guard::AllowedHosts;

use crate::fetch::Mirrors;

/// What the service reads from its environment.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder of the packs. Only this process uses it.
    pub dir: PathBuf,
    /// Bytes of all packs together; the least recently used ones make room.
    pub cache_bytes: u64,
    /// Packs that were not used for so long are deleted.
    pub cache_age: Duration,
    /// Bytes of one pack, whatever a plan allows.
    pub pack_bytes: u64,
    /// Memory of the child of one job.
    pub child_memory_bytes: u64,
    /// How long a git server may be silent.
    pub idle: Duration,
    /// Hosts of the operator's own network.
    pub allowed: AllowedHosts,
    /// Which host is asked instead of another one.
    pub mirrors: Mirrors,
}

impl Config {
    /// Reads the settings.
    pub fn read(env: &mut Reader<'_>) -> Self {
        let dir = env.text("KIJKO_INDEXER_DIR");
        if dir.is_none() {
            env.problem(
                "KIJKO_INDEXER_DIR",
                "is required: the folder of fetched repositories",
            );
        }
        let mib = |mib: u64| mib << 20;
        Self {
            dir: dir.unwrap_or_default().into(),
            cache_bytes: mib(env.number("KIJKO_INDEXER_CACHE_MIB", 4_096, 16..=1 << 30)),
            cache_age: Duration::from_secs(
                86_400 * env.number("KIJKO_INDEXER_CACHE_DAYS", 7, 1..=365),
            ),
            pack_bytes: mib(env.number("KIJKO_INDEXER_PACK_MIB", 1_024, 1..=65_536)),
            child_memory_bytes: mib(env.number("KIJKO_INDEXER_MEMORY_MIB", 512, 64..=65_536)),
            idle: env.seconds("KIJKO_INDEXER_IDLE_SECONDS", 60, 1..=600),
            allowed: env.parsed(
                "KIJKO_INDEXER_ALLOWED_HOSTS",
                "",
                "hosts separated by commas, each with a port or without",
            ),
            mirrors: env.parsed(
                "KIJKO_INDEXER_MIRRORS",
                "",
                "host=URL separated by commas, such as github.com=https://git.example.com/github",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::SERVICE;

    fn read(settings: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let lookup = |name: &str| {
            let setting = settings.iter().rev().find(|(key, _)| *key == name);
            setting.map(|(_, value)| (*value).to_owned())
        };
        let mut env = Reader::new(SERVICE, &lookup);
        let config = Config::read(&mut env);
        let first_word =
            |problem: &String| problem.split(' ').next().unwrap_or_default().to_owned();
        env.finish(Some(config))
            .map_err(|error| error.problems.iter().map(first_word).collect())
    }

    #[test]
    fn only_the_folder_is_required() {
        assert_eq!(read(&[]).unwrap_err(), ["KIJKO_INDEXER_DIR"]);
        let config = read(&[("KIJKO_INDEXER_DIR", "/srv")]).unwrap();
        assert_eq!(config.cache_bytes, 4 << 30);
    }

    #[test]
    fn each_bad_setting_is_named() {
        for (name, value) in [
            ("KIJKO_INDEXER_CACHE_MIB", "1"),
            ("KIJKO_INDEXER_CACHE_DAYS", "0"),
            ("KIJKO_INDEXER_PACK_MIB", "0"),
            ("KIJKO_INDEXER_MEMORY_MIB", "63"),
            ("KIJKO_INDEXER_IDLE_SECONDS", "0"),
            ("KIJKO_INDEXER_ALLOWED_HOSTS", "http://a"),
            ("KIJKO_INDEXER_MIRRORS", "github.com"),
            ("KIJKO_INDEXER_MIRRORS", "github.com=ftp://a"),
            ("KIJKO_INDEXER_MIRRORS", "github.com=https://u:hunter2@a"),
        ] {
            let problems = read(&[("KIJKO_INDEXER_DIR", "/srv"), (name, value)]).unwrap_err();
            assert_eq!(problems, [name], "{value}");
        }
    }
}

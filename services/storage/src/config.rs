//! The folder, the keys of signed URLs, and limits.

use std::{path::PathBuf, time::Duration};

use kijko_core::{config::Reader, secret::Secret};

/// A key that is shorter could be guessed.
const MIN_KEY: usize = 32;

/// What the service reads from its environment.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the bytes lie.
    pub folder: PathBuf,
    /// Keys of signed URLs: the first one signs, all of them verify.
    pub signing_keys: Vec<Secret>,
    /// Bytes of one object, where its bucket says nothing less.
    pub max_bytes: u64,
    /// Uploads of one user, API key or network at a time.
    pub uploads_of_caller: i32,
    /// A request whose body is silent for so long is given up.
    pub idle: Duration,
    /// How long an upload is known as under way without a sign of its service.
    pub lease: Duration,
    /// How often uploads and bytes to delete are looked for.
    pub sweep: Duration,
}

impl Config {
    /// Reads the settings.
    pub fn read(env: &mut Reader<'_>) -> Self {
        let folder = env.text("KIJKO_STORAGE_DIR").unwrap_or_else(|| {
            env.problem(
                "KIJKO_STORAGE_DIR",
                "is required: the folder of the objects",
            );
            String::new()
        });
        Self {
            folder: folder.into(),
            signing_keys: signing_keys(env),
            max_bytes: env.number("KIJKO_STORAGE_MAX_BYTES", 50 << 20, 1..=1 << 40),
            uploads_of_caller: env.number("KIJKO_STORAGE_UPLOADS_OF_CALLER", 20, 1..=10_000) as i32,
            idle: env.seconds("KIJKO_STORAGE_IDLE_SECONDS", 30, 1..=600),
            lease: env.seconds("KIJKO_STORAGE_LEASE_SECONDS", 120, 2..=3_600),
            sweep: env.seconds("KIJKO_STORAGE_SWEEP_SECONDS", 10, 1..=3_600),
        }
    }
}

fn signing_keys(env: &mut Reader<'_>) -> Vec<Secret> {
    let name = "KIJKO_STORAGE_SIGNING_KEY";
    let text = env.text(name).unwrap_or_default();
    let keys: Vec<_> = text.split(',').map(str::trim).collect();
    if keys.iter().any(|key| key.len() < MIN_KEY) {
        env.problem(
            name,
            format_args!("is required: a secret of at least {MIN_KEY} characters; several, separated by commas, while they change"),
        );
    }
    keys.into_iter().map(Secret::new).collect()
}

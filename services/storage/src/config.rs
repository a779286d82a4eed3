//! Where the bytes lie, the keys of signed URLs, and limits.

use std::{path::PathBuf, time::Duration};

use kijko_core::{config::Reader, outbound::Url, secret::Secret};

use crate::blobs::s3_part;

/// A key that is shorter could be guessed.
const MIN_KEY: usize = 32;

/// What the service reads from its environment.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the bytes lie.
    pub place: Place,
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
    /// How long the bytes of a deleted object are kept, for a restore to an earlier moment.
    pub keep_deleted: Duration,
}

/// Where bytes lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a folder.
    Folder(PathBuf),
    /// In a bucket.
    S3(S3Settings),
}

/// An S3-compatible store. It is the operator's, never a tenant's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Settings {
    /// The bucket.
    pub bucket: String,
    /// The address; AWS's own without one.
    pub endpoint: Option<String>,
    /// The region.
    pub region: String,
    /// What the names of objects begin with, so that several stacks can share a bucket.
    pub prefix: String,
    /// The id of the key.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: Secret,
    /// The folder in which bytes wait until they are a whole part.
    pub spool: PathBuf,
    /// Memory for the parts that are being sent, of all uploads together.
    pub buffer_bytes: u64,
}

const DAY: u64 = 86_400;

impl Config {
    /// Reads the settings.
    pub fn read(env: &mut Reader<'_>) -> Self {
        let max_bytes = env.number("KIJKO_STORAGE_MAX_BYTES", 50 << 20, 1..=1 << 40);
        Self {
            place: place(env, max_bytes),
            signing_keys: signing_keys(env),
            max_bytes,
            uploads_of_caller: env.number("KIJKO_STORAGE_UPLOADS_OF_CALLER", 20, 1..=10_000) as i32,
            idle: env.seconds("KIJKO_STORAGE_IDLE_SECONDS", 30, 1..=600),
            lease: env.seconds("KIJKO_STORAGE_LEASE_SECONDS", 120, 2..=3_600),
            sweep: env.seconds("KIJKO_STORAGE_SWEEP_SECONDS", 10, 1..=3_600),
            keep_deleted: Duration::from_secs(
                DAY * env.number("KIJKO_STORAGE_KEEP_DELETED_DAYS", 2, 0..=3_650),
            ),
        }
    }
}

const S3_SETTINGS: [&str; 5] = [
    "KIJKO_STORAGE_S3_ENDPOINT",
    "KIJKO_STORAGE_S3_REGION",
    "KIJKO_STORAGE_S3_PREFIX",
    "KIJKO_STORAGE_S3_ACCESS_KEY_ID",
    "KIJKO_STORAGE_S3_SECRET_ACCESS_KEY",
];

/// A bucket if one is named, otherwise the folder.
fn place(env: &mut Reader<'_>, max_bytes: u64) -> Place {
    if let Some(bucket) = env.text("KIJKO_STORAGE_S3_BUCKET") {
        return Place::S3(s3(env, bucket, max_bytes));
    }
    if S3_SETTINGS.iter().any(|name| env.text(name).is_some()) {
        env.problem(
            "KIJKO_STORAGE_S3_BUCKET",
            "is required where another setting of S3 is there",
        );
    } else if env.text("KIJKO_STORAGE_DIR").is_none() {
        env.problem(
            "KIJKO_STORAGE_DIR",
            "is required: the folder of the objects; or KIJKO_STORAGE_S3_BUCKET",
        );
    }
    Place::Folder(env.text("KIJKO_STORAGE_DIR").unwrap_or_default().into())
}

fn s3(env: &mut Reader<'_>, bucket: String, max_bytes: u64) -> S3Settings {
    let mut text = |name: &str, fits: &dyn Fn(&str) -> bool, shape: &str| {
        let text = env.text(name);
        if text.as_deref().is_some_and(|text| !fits(text)) {
            env.problem(name, format_args!("must be {shape}"));
        }
        text
    };
    let _ = text(
        "KIJKO_STORAGE_S3_BUCKET",
        &is_bucket,
        "the name of a bucket: 3 to 63 small letters, digits, - and .",
    );
    let endpoint = text(
        "KIJKO_STORAGE_S3_ENDPOINT",
        &is_endpoint,
        "an http or https address without a path, such as https://s3.example.com",
    );
    let region = text(
        "KIJKO_STORAGE_S3_REGION",
        &|region| is_made_of(region, |byte| byte.is_ascii_alphanumeric() || byte == b'-'),
        "the name of a region, such as eu-west-1",
    );
    let prefix = text(
        "KIJKO_STORAGE_S3_PREFIX",
        &is_prefix,
        "names of letters, digits and ._- with / between them",
    );
    let access_key_id = text("KIJKO_STORAGE_S3_ACCESS_KEY_ID", &is_key, "printable ASCII");
    let secret = text(
        "KIJKO_STORAGE_S3_SECRET_ACCESS_KEY",
        &is_key,
        "printable ASCII",
    );
    for (name, value) in [
        ("KIJKO_STORAGE_S3_ACCESS_KEY_ID", &access_key_id),
        ("KIJKO_STORAGE_S3_SECRET_ACCESS_KEY", &secret),
    ] {
        if value.is_none() {
            env.problem(name, "is required with KIJKO_STORAGE_S3_BUCKET");
        }
    }
    let buffer_bytes = env.number("KIJKO_STORAGE_S3_BUFFER_MIB", 128, 8..=1 << 20) << 20;
    if buffer_bytes < s3_part(max_bytes) {
        env.problem(
            "KIJKO_STORAGE_S3_BUFFER_MIB",
            format_args!(
                "must hold one part, which is {} MiB with this KIJKO_STORAGE_MAX_BYTES",
                s3_part(max_bytes).div_ceil(1 << 20)
            ),
        );
    }
    let spool = env.text("KIJKO_STORAGE_DIR").map(PathBuf::from);
    S3Settings {
        bucket,
        endpoint: endpoint.map(|text| text.trim_end_matches('/').to_owned()),
        region: region.unwrap_or_else(|| "us-east-1".into()),
        prefix: prefix.unwrap_or_default(),
        access_key_id: access_key_id.unwrap_or_default(),
        secret_access_key: Secret::new(secret.unwrap_or_default()),
        spool: spool.unwrap_or_else(std::env::temp_dir),
        buffer_bytes,
    }
}

fn is_made_of(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    text.bytes().all(allowed)
}

fn is_bucket(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (3..=63).contains(&name.len())
        && is_made_of(name, |byte| plain(byte) || byte == b'-' || byte == b'.')
        && name.bytes().next().is_some_and(plain)
        && name.bytes().last().is_some_and(plain)
}

fn is_endpoint(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
            && url.path() == "/"
    })
}

fn is_prefix(text: &str) -> bool {
    text.split('/').all(|name| {
        !matches!(name, "" | "." | "..")
            && is_made_of(name, |byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
            })
    })
}

fn is_key(text: &str) -> bool {
    is_made_of(text, |byte| byte.is_ascii_graphic())
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::service::SERVICE;

    const S3: [(&str, &str); 3] = [
        ("KIJKO_STORAGE_S3_BUCKET", "objects"),
        ("KIJKO_STORAGE_S3_ACCESS_KEY_ID", "id"),
        ("KIJKO_STORAGE_S3_SECRET_ACCESS_KEY", "hunter2/+"),
    ];

    /// The settings, or the names of those that are wrong.
    fn read(settings: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let mut all = HashMap::from([(
            "KIJKO_STORAGE_SIGNING_KEY",
            "a key of at least 32 characters. Really",
        )]);
        all.extend(settings.iter().copied());
        let lookup = |name: &str| all.get(name).map(|value| (*value).to_owned());
        let mut env = Reader::new(SERVICE, &lookup);
        let config = Config::read(&mut env);
        env.finish(Some(config)).map_err(|error| {
            assert!(!error.to_string().contains("hunter2"), "{error}");
            let names = error
                .problems
                .iter()
                .map(|text| text.split(' ').next().unwrap_or_default());
            names.map(str::to_owned).collect()
        })
    }

    fn with(settings: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
        S3.iter().chain(settings).copied().collect()
    }

    #[test]
    fn a_bucket_wins_over_a_folder() {
        let folder = read(&[("KIJKO_STORAGE_DIR", "/srv")]).unwrap();
        assert_eq!(folder.place, Place::Folder("/srv".into()));
        assert_eq!(folder.keep_deleted, Duration::from_secs(2 * DAY));
        let settings = [
            ("KIJKO_STORAGE_DIR", "/srv"),
            ("KIJKO_STORAGE_S3_ENDPOINT", "http://localhost:9000/"),
            ("KIJKO_STORAGE_S3_PREFIX", "a/b.c"),
            ("KIJKO_STORAGE_KEEP_DELETED_DAYS", "0"),
        ];
        let s3 = read(&with(&settings)).unwrap();
        assert_eq!(s3.keep_deleted, Duration::ZERO);
        assert!(!format!("{s3:?}").contains("hunter2"));
        let Place::S3(s3) = s3.place else {
            panic!("no bucket")
        };
        assert_eq!(s3.endpoint.as_deref(), Some("http://localhost:9000"));
        assert_eq!((&*s3.region, &*s3.prefix), ("us-east-1", "a/b.c"));
        assert_eq!((s3.spool, s3.buffer_bytes), ("/srv".into(), 128 << 20));
    }

    #[test]
    fn each_bad_setting_is_named() {
        for (name, value) in [
            ("KIJKO_STORAGE_S3_BUCKET", "UPPER"),
            ("KIJKO_STORAGE_S3_BUCKET", "a"),
            ("KIJKO_STORAGE_S3_BUCKET", "-objects"),
            ("KIJKO_STORAGE_S3_BUCKET", "a/b"),
            ("KIJKO_STORAGE_S3_ENDPOINT", "localhost:9000"),
            ("KIJKO_STORAGE_S3_ENDPOINT", "https://u:hunter2@host"),
            ("KIJKO_STORAGE_S3_ENDPOINT", "https://host/objects"),
            ("KIJKO_STORAGE_S3_ENDPOINT", "https://host?x=1"),
            ("KIJKO_STORAGE_S3_REGION", "eu west"),
            ("KIJKO_STORAGE_S3_PREFIX", "../other"),
            ("KIJKO_STORAGE_S3_PREFIX", "/a"),
            ("KIJKO_STORAGE_S3_ACCESS_KEY_ID", "two words"),
            ("KIJKO_STORAGE_S3_ACCESS_KEY_ID", ""),
            ("KIJKO_STORAGE_S3_SECRET_ACCESS_KEY", "hunter2 hunter2"),
            ("KIJKO_STORAGE_S3_SECRET_ACCESS_KEY", ""),
            ("KIJKO_STORAGE_S3_BUFFER_MIB", "7"),
            ("KIJKO_STORAGE_KEEP_DELETED_DAYS", "3651"),
            ("KIJKO_STORAGE_KEEP_DELETED_DAYS", "one"),
            ("KIJKO_STORAGE_MAX_BYTES", "0"),
            ("KIJKO_STORAGE_UPLOADS_OF_CALLER", "0"),
            ("KIJKO_STORAGE_IDLE_SECONDS", "601"),
            ("KIJKO_STORAGE_LEASE_SECONDS", "1"),
            ("KIJKO_STORAGE_SWEEP_SECONDS", "0"),
            ("KIJKO_STORAGE_SIGNING_KEY", "hunter2"),
        ] {
            let problems = read(&with(&[(name, value)])).unwrap_err();
            assert_eq!(problems, [name], "{value}");
        }
    }

    #[test]
    fn the_buffer_holds_a_part_of_the_largest_object() {
        let settings = |mib| {
            let max_bytes = ("KIJKO_STORAGE_MAX_BYTES", "1000000000000"); // parts of 96 MiB
            with(&[max_bytes, ("KIJKO_STORAGE_S3_BUFFER_MIB", mib)])
        };
        assert!(read(&settings("96")).is_ok());
        let problems = read(&settings("95")).unwrap_err();
        assert_eq!(problems, ["KIJKO_STORAGE_S3_BUFFER_MIB"]);
    }

    #[test]
    fn one_place_is_required() {
        assert_eq!(read(&[]).unwrap_err(), ["KIJKO_STORAGE_DIR"]);
        let no_bucket = [S3[1], ("KIJKO_STORAGE_DIR", "/srv")];
        assert_eq!(read(&no_bucket).unwrap_err(), ["KIJKO_STORAGE_S3_BUCKET"]);
    }
}

//! `kijko-storage check`: whether rows and bytes belong together, for `./kijko storage check`.
//!
//! Bytes are listed before rows are read: an upload has its row before its bytes, so bytes without a row are none that are new.
//! A row without bytes may just be gone, and bytes without a row, too: both are looked at twice.

use std::{
    collections::{HashMap, HashSet},
    process::ExitCode,
    time::Duration,
};

use futures_util::TryStreamExt;
use kijko_core::{
    config::{ConfigError, Reader},
    db::{DatabaseConfig, Db},
};
use uuid::Uuid;

use crate::{
    blobs::{Blobs, Entry},
    config::Config,
    service::SERVICE,
};

/// Reading all rows takes longer than any request may.
const READING: Duration = Duration::from_secs(300);

/// What happens to bytes without a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strays {
    /// They are printed.
    Named,
    /// They are deleted now.
    Deleted,
    /// They are deleted later, as if their object had been deleted now.
    Queued,
}

/// An object as its row describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    version: Uuid,
    bytes: u64,
    name: String,
}

type Problem = Box<dyn std::error::Error>;

/// Exits 0 when nothing is amiss, 1 when something is or the check failed, 2 for arguments or settings that it cannot use.
pub fn main(arguments: &[&str]) -> ExitCode {
    let strays = match *arguments {
        [] => Strays::Named,
        ["--delete"] => Strays::Deleted,
        ["--queue"] => Strays::Queued,
        _ => {
            eprintln!("{} check takes --delete, --queue or nothing", SERVICE.name);
            return ExitCode::from(2);
        }
    };
    let (database, config) = match settings() {
        Ok(settings) => settings,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(2);
        }
    };
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Problem::from)
        .and_then(|runtime| runtime.block_on(check(&database, &config, strays)));
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("{}: {problem}", SERVICE.name);
            ExitCode::FAILURE
        }
    }
}

fn settings() -> Result<(DatabaseConfig, Config), ConfigError> {
    let lookup = |name: &str| std::env::var(name).ok();
    let mut env = Reader::new(SERVICE, &lookup);
    let database = DatabaseConfig::read(&mut env);
    let config = Config::read(&mut env);
    env.finish(database.map(|database| (database, config)))
}

async fn check(
    database: &DatabaseConfig,
    config: &Config,
    strays: Strays,
) -> Result<bool, Problem> {
    let db = Db::new(&DatabaseConfig {
        timeout: READING,
        ..database.clone()
    })?;
    let blobs = Blobs::open(&config.place)?;
    let there: Vec<Entry> = blobs.list().try_collect().await?;
    let (known, rows) = inventory(&db).await?;
    let missing = missing(&db, &blobs, &there, &rows).await?;
    for name in &missing {
        println!("no bytes: {name}");
    }
    let mut found = Vec::new();
    for entry in there.iter().filter(|entry| !known.contains(&entry.version)) {
        if !entry.complete || blobs.size(entry.version).await?.is_some() {
            println!("no row: {}", entry.name);
            found.push(entry.version);
        }
    }
    println!(
        "{} objects, {} stored: {} rows without their bytes, {} stored without a row",
        rows.len(),
        there.len(),
        missing.len(),
        found.len()
    );
    end(&db, &blobs, strays, &found).await?;
    Ok(missing.is_empty() && (found.is_empty() || strays != Strays::Named))
}

/// Versions that are there, are coming or are going; and the objects.
async fn inventory(db: &Db) -> Result<(HashSet<Uuid>, Vec<Row>), Problem> {
    let sql = "select version, kind, bytes, name from storage_service.inventory()";
    let all: Vec<Option<(Uuid, Option<Row>)>> = db
        .all(sql, &[], |row| {
            let (version, kind): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
            // A row that was written by hand has no bytes.
            let Ok(version) = version.parse() else {
                return Ok(None);
            };
            if kind != "object" {
                return Ok(Some((version, None)));
            }
            let bytes = row.try_get::<_, i64>(2)?.unsigned_abs();
            let name = row.try_get(3)?;
            Ok(Some((
                version,
                Some(Row {
                    version,
                    bytes,
                    name,
                }),
            )))
        })
        .await?;
    let (mut known, mut rows) = (HashSet::new(), Vec::new());
    for (version, row) in all.into_iter().flatten() {
        known.insert(version);
        rows.extend(row);
    }
    Ok((known, rows))
}

/// Names of the objects that have no bytes, or another number of them.
async fn missing(
    db: &Db,
    blobs: &Blobs,
    there: &[Entry],
    rows: &[Row],
) -> Result<Vec<String>, Problem> {
    let sizes: HashMap<_, _> = there
        .iter()
        .filter(|entry| entry.complete)
        .map(|entry| (entry.version, entry.bytes))
        .collect();
    let suspects: Vec<_> = rows
        .iter()
        .filter(|row| sizes.get(&row.version) != Some(&row.bytes))
        .collect();
    if suspects.is_empty() {
        return Ok(Vec::new());
    }
    let mut missing = Vec::new();
    for row in suspects {
        if blobs.size(row.version).await? != Some(row.bytes) {
            missing.push(row);
        }
    }
    let (_, again) = inventory(db).await?;
    let again: HashSet<_> = again.iter().map(|row| row.version).collect();
    Ok(missing
        .into_iter()
        .filter(|row| again.contains(&row.version))
        .map(|row| row.name.clone())
        .collect())
}

async fn end(db: &Db, blobs: &Blobs, strays: Strays, found: &[Uuid]) -> Result<(), Problem> {
    if found.is_empty() {
        return Ok(());
    }
    match strays {
        Strays::Named => {}
        Strays::Deleted => {
            for version in found {
                blobs.delete(*version, None).await?;
            }
            println!("deleted {} of them", found.len());
        }
        Strays::Queued => {
            let queued: i32 = db
                .scalar("select storage_service.queue_strays($1)", &[&found])
                .await?;
            println!(
                "{queued} of them will be deleted later, as if their objects had been deleted now"
            );
        }
    }
    Ok(())
}

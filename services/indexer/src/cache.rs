//! Packs of repositories on disk, so that a push fetches only what is new. Whatever is lost is fetched again.
//!
//! Each repository has a folder: packs with their indexes, and an empty file `commit-<id>` for each commit all trees of which are
//! there. One job at a time uses a folder. Folders that were not used for longest make room for others.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rustix::fs::{FlockOperation, flock};
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use crate::fetch::is_oid;

/// Packs of one repository; with more, reading becomes slow and a new clone is cheaper.
const MAX_PACKS: usize = 30;
/// What is being fetched. A killed process may leave it.
const INCOMING: &str = "incoming.pack";
/// Changed by each use.
const USED: &str = "used";

/// All folders.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    max_bytes: u64,
    max_age: Duration,
    in_use: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    _lock: File,
}

/// The folder of a repository, as long as a job uses it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _in_use: OwnedMutexGuard<()>,
}

impl Cache {
    /// Takes the folder for this process alone.
    pub fn open(dir: &Path, max_bytes: u64, max_age: Duration) -> io::Result<Self> {
        private().recursive(true).create(dir)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            let dir = dir.display();
            io::Error::other(format!(
                "another indexer uses {dir} (KIJKO_INDEXER_DIR): {error}"
            ))
        })?;
        Ok(Self {
            dir: dir.to_owned(),
            max_bytes,
            max_age,
            in_use: Mutex::default(),
            _lock: lock,
        })
    }

    /// The folder of a repository at this address. Waits for another job that uses it.
    pub async fn enter(&self, repository: Uuid, url: &str) -> io::Result<Folder> {
        let hash =
            gix_object::compute_hash(gix_hash::Kind::Sha1, gix_object::Kind::Blob, url.as_bytes());
        let hash = hash
            .map_err(io::Error::other)?
            .to_hex_with_len(16)
            .to_string();
        let name = format!("{repository}-{hash}");
        let lock = self.lock_of(&name);
        let in_use = lock.lock_owned().await;
        let folder = Folder {
            path: self.dir.join(name),
            _in_use: in_use,
        };
        folder.prepare()?;
        Ok(folder)
    }

    /// The repositories that have a folder.
    pub fn repositories(&self) -> io::Result<HashSet<Uuid>> {
        Ok(self
            .folders()?
            .iter()
            .filter_map(|it| repository(it))
            .collect())
    }

    /// Deletes the folders of these repositories, unless a job uses one.
    pub fn forget(&self, repositories: &HashSet<Uuid>) -> io::Result<()> {
        for path in self.folders()? {
            if repository(&path).is_some_and(|id| repositories.contains(&id)) {
                self.remove(&path)?;
            }
        }
        Ok(())
    }

    /// Bytes of all folders, after those that are too old are deleted, and those that were not used for longest have made room.
    pub fn trim(&self) -> io::Result<u64> {
        let now = SystemTime::now();
        let mut folders = Vec::new();
        for path in self.folders()? {
            let used = fs::metadata(path.join(USED)).and_then(|it| it.modified());
            let used = used.unwrap_or(SystemTime::UNIX_EPOCH);
            folders.push((used, bytes_of(&path)?, path));
        }
        folders.sort();
        let mut total = folders.iter().map(|(_, bytes, _)| bytes).sum::<u64>();
        for (used, bytes, path) in folders {
            let age = now.duration_since(used).unwrap_or_default();
            if total <= self.max_bytes && age < self.max_age {
                break;
            }
            if self.remove(&path)? {
                total -= bytes;
            }
        }
        self.locks().retain(|_, lock| Arc::strong_count(lock) > 1);
        Ok(total)
    }

    fn folders(&self) -> io::Result<Vec<PathBuf>> {
        let mut folders = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
        Ok(folders)
    }

    /// False if a job uses it. Whoever waits for it finds it empty.
    fn remove(&self, folder: &Path) -> io::Result<bool> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let Ok(_in_use) = self.lock_of(&name).try_lock_owned() else {
            return Ok(false);
        };
        fs::remove_dir_all(folder)?;
        Ok(true)
    }

    /// Whether it can be written.
    pub fn probe(&self) -> io::Result<()> {
        fs::write(self.dir.join("probe"), b"")
    }

    fn lock_of(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        self.locks().entry(name.to_owned()).or_default().clone()
    }

    fn locks(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<tokio::sync::Mutex<()>>>> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Folder {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name and the place of the pack that is being fetched.
    pub fn incoming(&self) -> (String, PathBuf) {
        (INCOMING.to_owned(), self.path.join(INCOMING))
    }

    /// Commits all trees of which are there.
    pub fn commits(&self) -> io::Result<Vec<String>> {
        let mut commits = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let commit = name.to_str().and_then(|name| name.strip_prefix("commit-"));
            commits.extend(commit.filter(|commit| is_oid(commit)).map(str::to_owned));
        }
        commits.sort();
        Ok(commits)
    }

    /// Notes that all trees of a commit are there.
    pub fn remember(&self, commit: &str) -> io::Result<()> {
        self.discard_incoming()?;
        fs::write(self.path.join(format!("commit-{commit}")), b"")
    }

    /// Begins anew.
    pub fn clear(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.path)?;
        self.prepare()
    }

    fn prepare(&self) -> io::Result<()> {
        private().recursive(true).create(&self.path)?;
        self.discard_incoming()?;
        let mut packs = 0;
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("idx") => packs += 1,
                Some("pack" | "keep") => {}
                // Left by a process that was killed.
                _ if path
                    .file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with(".tmp")) =>
                {
                    fs::remove_file(&path)?;
                }
                _ => {}
            }
        }
        if packs > MAX_PACKS {
            fs::remove_dir_all(&self.path)?;
            private().create(&self.path)?;
        }
        fs::write(self.path.join(USED), b"")
    }

    fn discard_incoming(&self) -> io::Result<()> {
        match fs::remove_file(self.path.join(INCOMING)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whose folder it is: its name begins with the id.
fn repository(folder: &Path) -> Option<Uuid> {
    let name = folder.file_name()?.to_str()?;
    name.get(..36)?.parse().ok()
}

/// Nobody else reads the repositories of tenants.
fn private() -> fs::DirBuilder {
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700);
    builder
}

fn bytes_of(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        match entry?.metadata() {
            Ok(metadata) => bytes += metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://github.com/a/b.git";
    const DAY: Duration = Duration::from_secs(86_400);

    #[tokio::test]
    async fn a_folder_is_used_by_one_job_and_by_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), 1_000, DAY).unwrap();
        assert!(Cache::open(dir.path(), 1_000, DAY).is_err());
        let id = Uuid::from_u128(1);
        let folder = cache.enter(id, URL).await.unwrap();
        let mut second = std::pin::pin!(cache.enter(id, URL));
        let early = tokio::time::timeout(std::time::Duration::from_millis(20), &mut second).await;
        assert!(early.is_err());
        drop(folder);
        second.await.unwrap();
    }

    #[tokio::test]
    async fn what_was_not_used_for_longest_makes_room_and_what_is_used_stays() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), 1_500, DAY).unwrap();
        for n in [1, 2] {
            let folder = cache.enter(Uuid::from_u128(n), URL).await.unwrap();
            fs::write(folder.path().join("a.pack"), [0; 1_000]).unwrap();
            folder.remember(&"a".repeat(40)).unwrap();
        }
        let old = cache.enter(Uuid::from_u128(1), URL).await.unwrap();
        assert_eq!(cache.trim().unwrap(), 1_000);
        assert_eq!(old.commits().unwrap().len(), 1);
        drop(old);
        let other = cache.enter(Uuid::from_u128(2), URL).await.unwrap();
        assert!(other.commits().unwrap().is_empty());
        // Another address is another repository.
        let moved = cache
            .enter(Uuid::from_u128(1), "https://github.com/a/c.git")
            .await
            .unwrap();
        assert!(moved.commits().unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_was_not_used_for_days_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), 1 << 20, DAY).unwrap();
        for (n, age) in [(1, 3 * DAY), (2, DAY / 2)] {
            let folder = cache.enter(Uuid::from_u128(n), URL).await.unwrap();
            let used = File::options().write(true).open(folder.path().join(USED));
            used.unwrap().set_modified(SystemTime::now() - age).unwrap();
        }
        cache.trim().unwrap();
        let left = fs::read_dir(dir.path()).unwrap();
        let left: Vec<_> = left
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains('-'))
            .collect();
        assert_eq!(left.len(), 1);
        assert!(left[0].starts_with(&Uuid::from_u128(2).to_string()));
    }

    #[tokio::test]
    async fn what_is_deleted_is_gone_unless_a_job_uses_it() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), 1 << 20, DAY).unwrap();
        let ids = [1, 2, 3].map(Uuid::from_u128);
        for id in ids {
            cache.enter(id, URL).await.unwrap();
        }
        let used = cache.enter(ids[1], URL).await.unwrap();
        cache.forget(&HashSet::from([ids[0], ids[1]])).unwrap();
        assert_eq!(
            cache.repositories().unwrap(),
            HashSet::from([ids[1], ids[2]])
        );
        drop(used);
    }

    #[tokio::test]
    async fn what_a_killed_process_leaves_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), 1_000, DAY).unwrap();
        let id = Uuid::from_u128(1);
        let folder = cache.enter(id, URL).await.unwrap();
        fs::write(folder.incoming().1, b"half").unwrap();
        fs::write(folder.path().join(".tmpabc"), b"half").unwrap();
        drop(folder);
        let folder = cache.enter(id, URL).await.unwrap();
        let names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|it| it.unwrap().file_name())
            .collect();
        assert_eq!(names, ["used"]);
    }
}

//! The journal of erasures: a file outside the database and its backups, a line of JSON for each erasure. `./kijko restore` replays it,
//! so that a backup brings nobody back.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use serde_json::Value;

/// The file.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    path: PathBuf,
}

impl Journal {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Appends an entry. When this returns, it is on the disk. A repetition makes a second line, which a replay takes as one.
    pub(super) fn append(&self, entry: &Value) -> io::Result<String> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)?;
        // Other sidecars of this machine write it, too. The lock ends with the file.
        file.lock()?;
        let mut line = entry.to_string();
        if !ends_with_newline(&mut file)? {
            // A line that a crash has torn was never confirmed, and must not tear this one.
            line.insert(0, '\n');
        }
        line.push('\n');
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        // A sidecar that made the file may have died before its name was on the disk.
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(line)
    }
}

fn ends_with_newline(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_torn_line_tears_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("erasures");
        let journal = Journal::new(path.clone());
        journal.append(&json!({"id": 1})).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"id\":").unwrap();
        journal.append(&json!({"id": 2})).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"id\":1}\n{\"id\":\n{\"id\":2}\n");
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let journal = Journal::new("/nowhere/at/all".into());
        assert!(journal.append(&json!({})).is_err());
    }
}

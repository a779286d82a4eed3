//! The files of a log that is rotated: the one that is written, and those beside it that were.
//!
//! A file is known by its first line, since names and inodes come again. So a file that was renamed is read to its end, one that
//! was copied is not read twice, and one that was emptied begins anew.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::SystemTime,
};

use aws_lc_rs::digest;

/// Lines hold a path of up to 16 KiB and headers of an answer. A longer first line is told by its beginning.
const MAX_FIRST_LINE: u64 = 64 << 10;

/// What is read at once.
pub(super) const MAX_BYTES: u64 = 512 << 10;

/// A file of the log.
#[derive(Debug)]
pub(super) struct LogFile {
    /// The SHA-256 of its first line, in hexadecimal.
    pub id: String,
    /// Its bytes.
    pub size: u64,
    path: PathBuf,
}

/// Whole lines of a file.
#[derive(Debug, PartialEq)]
pub(super) struct Chunk {
    pub lines: Vec<u8>,
    /// Where the next line begins.
    pub end: u64,
}

/// The files of the log, the oldest first. Those without a whole line are left out.
pub(super) fn find(path: &Path) -> io::Result<Vec<LogFile>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|it| it.to_str()))
    else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let stem = name.strip_suffix(".log").unwrap_or(name);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let other = entry.file_name();
        let rest = other.to_str().and_then(|it| it.strip_prefix(stem));
        // access.log, access-2026-11-29T20-15-00.000.log, access.log.1
        let is_of_log = rest.is_some_and(|rest| {
            rest == ".log" || rest.starts_with('-') && rest.ends_with(".log") || is_numbered(rest)
        });
        if is_of_log && let Some(file) = log_file(&entry.path())? {
            found.push(file);
        }
    }
    found.sort_by_key(|(changed, _)| *changed);
    let mut files: Vec<LogFile> = Vec::new();
    for (_, file) in found {
        // A copy of a file that is still there.
        match files.iter_mut().find(|known| known.id == file.id) {
            Some(known) if known.size < file.size => *known = file,
            Some(_) => {}
            None => files.push(file),
        }
    }
    Ok(files)
}

fn is_numbered(rest: &str) -> bool {
    let number = rest.strip_prefix(".log.").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// None: it is empty, or was removed meanwhile.
fn log_file(path: &Path) -> io::Result<Option<(SystemTime, LogFile)>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let about = file.metadata()?;
    if !about.is_file() {
        return Ok(None);
    }
    let mut first = Vec::new();
    BufReader::new(file.take(MAX_FIRST_LINE)).read_until(b'\n', &mut first)?;
    if first.last() != Some(&b'\n') && (first.len() as u64) < MAX_FIRST_LINE {
        return Ok(None);
    }
    let hash = digest::digest(&digest::SHA256, &first);
    let id = hash.as_ref().iter().map(|byte| format!("{byte:02x}"));
    let file = LogFile {
        id: id.collect(),
        size: about.len(),
        path: path.to_owned(),
    };
    Ok(Some((about.modified()?, file)))
}

impl LogFile {
    /// Whole lines from a position on. None: there are none yet. A line that is longer than what is read at once is skipped.
    pub fn read(&self, from: u64) -> io::Result<Option<Chunk>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut lines = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut lines)?;
        match lines.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => lines.truncate(last + 1),
            None if (lines.len() as u64) < MAX_BYTES => return Ok(None),
            None => {}
        }
        let end = from + lines.len() as u64;
        Ok(Some(Chunk { lines, end }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use uuid::Uuid;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("kijko-log-{}", Uuid::new_v4()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn log(&self) -> PathBuf {
            self.0.join("access.log")
        }

        fn append(&self, name: &str, text: &str) {
            let mut file = File::options()
                .create(true)
                .append(true)
                .open(self.0.join(name))
                .unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn text(chunk: Option<Chunk>) -> String {
        String::from_utf8(chunk.unwrap().lines).unwrap()
    }

    #[test]
    fn a_file_is_the_same_after_it_was_renamed_and_another_when_it_begins_anew() {
        let folder = Folder::new();
        folder.append("access.log", "one\ntwo\nthr");
        folder.append("other.log", "foreign\n");
        folder.append("access.logs", "foreign\n");
        let before = find(&folder.log()).unwrap();
        assert_eq!(before.len(), 1);
        assert_eq!(text(before[0].read(0).unwrap()), "one\ntwo\n");
        assert_eq!(before[0].read(8).unwrap(), None, "half a line is not read");

        let rotated = folder.0.join("access-2026-11-29T20-15-00.000.log");
        fs::rename(folder.log(), rotated).unwrap();
        folder.append("access-2026-11-29T20-15-00.000.log", "ee\n");
        folder.append("access.log", "four\n");
        let after = find(&folder.log()).unwrap();
        assert_eq!(after.len(), 2);
        let former = after.iter().find(|file| file.id == before[0].id).unwrap();
        assert_eq!(text(former.read(8).unwrap()), "three\n");
    }

    #[test]
    fn a_copy_is_not_read_twice() {
        let folder = Folder::new();
        folder.append("access.log", "one\ntwo\n");
        fs::copy(folder.log(), folder.0.join("access.log.1")).unwrap();
        folder.append("access.log", "three\n");
        let files = find(&folder.log()).unwrap();
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].size, 14, "the longer one counts");
    }

    #[test]
    fn an_endless_line_is_passed() {
        let folder = Folder::new();
        folder.append("access.log", "one\n");
        folder.append("access.log", &"x".repeat(MAX_BYTES as usize));
        let files = find(&folder.log()).unwrap();
        let skipped = files[0].read(4).unwrap().unwrap();
        assert_eq!(skipped.end, 4 + MAX_BYTES);
    }
}

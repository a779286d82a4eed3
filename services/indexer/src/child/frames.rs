//! What parent and child tell each other: JSON behind its length in four bytes.

use std::{
    io::{self, Read, Write},
    path::PathBuf,
};

use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};

/// Bytes of a frame. A file of 4 MiB can be six times as long in JSON, and has an outline.
pub const MAX_FRAME: usize = 48 << 20;
/// Bytes of what was parsed of a file. In a frame they can be twice as long.
pub const MAX_OUTLINE: usize = 8 << 20;

/// From the parent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The first one.
    Open(Open),
    /// The next page of the files.
    Page,
    /// The files of some blobs.
    Parse {
        /// At most a page of the entries.
        files: Vec<File>,
    },
}

/// What is listed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Open {
    /// The repository's folder in the cache.
    pub folder: PathBuf,
    /// The name of the new pack in it, if one was fetched.
    pub pack: Option<String>,
    /// The commit that is indexed.
    pub commit: String,
    /// The commit that is indexed already, if its files are in the cache.
    pub base: Option<String>,
    /// Glob patterns; none: all files.
    pub include: Vec<String>,
    /// Glob patterns.
    pub exclude: Vec<String>,
    /// Files of the commit.
    pub max_files: usize,
    /// Larger files are not read.
    pub max_file_bytes: u64,
    /// Bytes of all files of the commit that are read.
    pub max_bytes: u64,
}

/// A file to parse.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct File {
    /// Its blob.
    pub oid: String,
    /// Its path, which says the language.
    pub path: String,
}

/// From the child.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The files are listed.
    Listed(Listed),
    /// A page of the files that differ from the base, or of all files. Behind the last one all are empty.
    Entries {
        /// The files.
        entries: Vec<Entry>,
    },
    /// A file.
    Blob(Box<Blob>),
    /// Why there is nothing.
    Failed {
        /// One of the codes of an indexing job.
        code: String,
        /// In words.
        message: String,
    },
}

/// What is known when all files are listed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listed {
    /// When the commit was made, in seconds since 1970.
    pub committed_at: i64,
    /// Whether these are all files of the commit, and not only those that differ.
    pub full: bool,
    /// How many there are.
    pub files: usize,
}

/// The id under which a file is listed that the server left out. A tree may name any blob, also one of another repository of the
/// organization that its server does not have. So only a blob that came in a pack is listed under its own id. This one is no id of
/// git: it is as long as one of SHA-256, and repositories of these are refused.
pub fn absent(oid: &str) -> String {
    format!("{oid:0<64}")
}

/// Whether an id is made by [`absent`].
pub fn is_absent(oid: &str) -> bool {
    oid.len() == 64
}

/// A path and its blob; none if it is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The path.
    pub path: String,
    /// The blob, or [`absent`] for one that the server left out.
    pub oid: Option<String>,
    /// Git's mode, as a number.
    pub mode: u32,
}

/// A file as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Blob {
    /// Its id.
    pub oid: String,
    /// Its size.
    pub bytes: u64,
    /// Its lines.
    pub lines: u64,
    /// The language that it was parsed as.
    pub language: Option<String>,
    /// The text, unless it was skipped.
    pub content: Option<String>,
    /// Why it was skipped.
    pub skipped: Option<String>,
    /// Declarations, as JSON: the parent passes them on and need not read them.
    pub symbols: String,
    /// Uses of names, as JSON.
    pub references: String,
    /// Names from elsewhere, as JSON.
    pub imports: String,
}

impl Blob {
    /// A file without a text, or of which nothing was parsed.
    pub fn bare(oid: String, bytes: u64, skipped: Option<&str>) -> Self {
        let none = || "[]".to_owned();
        Self {
            oid,
            bytes,
            lines: 0,
            language: None,
            content: None,
            skipped: skipped.map(str::to_owned),
            symbols: none(),
            references: none(),
            imports: none(),
        }
    }
}

impl Blob {
    /// Its bytes, with what was parsed.
    pub fn size(&self) -> usize {
        self.content.as_ref().map_or(0, String::len) + self.outline_size()
    }

    /// Bytes of what was parsed.
    pub fn outline_size(&self) -> usize {
        self.symbols.len() + self.references.len() + self.imports.len()
    }

    /// Whether its parts are arrays of JSON, each by itself: otherwise one could add fields to the whole.
    pub fn has_arrays(&self) -> bool {
        [&self.symbols, &self.references, &self.imports]
            .iter()
            .all(|part| serde_json::from_str::<Vec<IgnoredAny>>(part).is_ok())
    }

    /// The file as the database takes it.
    pub fn write_json(&self, json: &mut String) -> serde_json::Result<()> {
        let head = Head {
            oid: &self.oid,
            bytes: self.bytes,
            lines: self.lines,
            language: self.language.as_deref(),
            content: self.content.as_deref(),
            skipped: self.skipped.as_deref(),
        };
        let head = serde_json::to_string(&head)?;
        json.push_str(head.strip_suffix('}').unwrap_or(&head));
        for (name, part) in [
            ("symbols", &self.symbols),
            ("references", &self.references),
            ("imports", &self.imports),
        ] {
            json.push_str(",\"");
            json.push_str(name);
            json.push_str("\":");
            json.push_str(part);
        }
        json.push('}');
        Ok(())
    }
}

#[derive(Serialize)]
struct Head<'a> {
    oid: &'a str,
    bytes: u64,
    lines: u64,
    language: Option<&'a str>,
    content: Option<&'a str>,
    skipped: Option<&'a str>,
}

/// A frame with its length.
pub fn encode(frame: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, frame)?;
    let length = bytes.len() - 4;
    if length > MAX_FRAME {
        return Err(io::Error::other("a frame is too long"));
    }
    bytes[..4].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(bytes)
}

/// Writes a frame.
pub fn write(output: &mut impl Write, frame: &impl Serialize) -> io::Result<()> {
    output.write_all(&encode(frame)?)?;
    output.flush()
}

/// Reads a frame; none at the end.
pub fn read<T: DeserializeOwned>(input: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut bytes = vec![0; length_of(length)?];
    input.read_exact(&mut bytes)?;
    Ok(Some(serde_json::from_slice(&bytes)?))
}

/// The length of a frame, if it may be that long.
pub fn length_of(length: [u8; 4]) -> io::Result<usize> {
    match u32::from_be_bytes(length) as usize {
        length if length <= MAX_FRAME => Ok(length),
        _ => Err(io::Error::other("a frame is too long")),
    }
}

//! What the child does.

use std::{
    io::{self, Read, Write},
    str::FromStr,
};

use gix_hash::ObjectId;
use gix_object::Kind;
use kijko_grammars::{Language, Limits, Parser};
use serde::Serialize;

use super::{
    classify,
    files::Filter,
    frames::{self, Blob, Entry, File, Listed, Open, Reply, Request},
    repository::{self, Repository, RepositoryError},
    sandbox,
    tree::{self, Listing, TreeError},
};

/// Entries of one frame.
const PAGE: usize = 1_000;
/// Objects that are no files of ours, such as large ones, must be indexed with the pack: so much memory each.
const MIN_OBJECT: u64 = 64 << 20;

/// Serves the parent until its input ends.
pub fn run(input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
    let Some(Request::Open(open)) = frames::read(input)? else {
        return Err(io::Error::other("the first frame is no Open"));
    };
    sandbox::only_files_of(&open.folder)?;
    match serve(&open, input, output) {
        Ok(()) => Ok(()),
        Err(Stop::Failed(code, message)) => {
            let code = code.to_owned();
            frames::write(output, &Reply::Failed { code, message })
        }
        Err(Stop::Io(error)) => Err(error),
    }
}

fn serve(open: &Open, input: &mut impl Read, output: &mut impl Write) -> Result<(), Stop> {
    let (mut work, listed) = list(open)?;
    frames::write(output, &Reply::Listed(listed))?;
    while let Some(request) = frames::read(input)? {
        match request {
            Request::Open(_) => return Err(io::Error::other("a second Open").into()),
            Request::Page => {
                let entries = work.entries.by_ref().take(PAGE).collect();
                frames::write(output, &Reply::Entries { entries })?;
            }
            Request::Parse { files } => {
                for file in files {
                    let blob = work.parse(&file)?;
                    frames::write(output, &Reply::Blob(Box::new(blob)))?;
                }
            }
        }
    }
    Ok(())
}

enum Stop {
    Failed(&'static str, String),
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<RepositoryError> for Stop {
    fn from(error: RepositoryError) -> Self {
        match error {
            RepositoryError::Corrupt(_) => Self::Failed("parse_failed", error.to_string()),
            RepositoryError::Disk(error) => Self::Io(error),
        }
    }
}

impl From<TreeError> for Stop {
    fn from(error: TreeError) -> Self {
        let text = error.to_string();
        match error {
            TreeError::TooMany(_) => Self::Failed("too_many_files", text),
            TreeError::Broken(_) => Self::Failed("parse_failed", text),
            TreeError::Repository(error) => error.into(),
        }
    }
}

/// Takes in the new pack and lists the files.
fn list(open: &Open) -> Result<(Work, Listed), Stop> {
    let max_object = usize::try_from(open.max_file_bytes.max(MIN_OBJECT)).unwrap_or(usize::MAX);
    if let Some(pack) = &open.pack {
        repository::add_pack(&open.folder, &open.folder.join(pack), max_object)?;
    }
    let mut repository = Repository::open(&open.folder, max_object)?;
    let filter = Filter::new(&open.include, &open.exclude).map_err(|error| {
        Stop::Failed(
            "invalid_input",
            format!("a path filter is no pattern: {error}"),
        )
    })?;
    let broken = |what: &str| Stop::Failed("parse_failed", what.to_owned());
    let (tree, committed_at) = tree::commit(&mut repository, &oid(&open.commit)?)?
        .ok_or_else(|| broken("the pack does not have the commit"))?;
    let base = match &open.base {
        Some(base) => tree::commit(&mut repository, &oid(base)?)?.map(|(tree, _)| tree),
        None => None,
    };
    let full = base.is_none();
    let mut entries = Listing::new(&mut repository, &filter, open.max_files).between(base, tree)?;
    for entry in &mut entries {
        if let Some(id) = &entry.oid
            && !repository.has(&oid(id)?)
        {
            entry.oid = Some(frames::absent(id));
        }
    }
    let files = entries.iter().filter(|entry| entry.oid.is_some()).count();
    if files > open.max_files {
        return Err(TreeError::TooMany(open.max_files).into());
    }
    let listed = Listed {
        committed_at,
        full,
        files: entries.len(),
    };
    let work = Work {
        repository,
        entries: entries.into_iter(),
        parser: Parser::default(),
        max_file_bytes: open.max_file_bytes,
        left: open.max_bytes,
    };
    Ok((work, listed))
}

fn oid(text: &str) -> Result<ObjectId, Stop> {
    ObjectId::from_str(text)
        .map_err(|_| Stop::Failed("parse_failed", "an id is none of git's".to_owned()))
}

struct Work {
    repository: Repository,
    entries: std::vec::IntoIter<Entry>,
    parser: Parser,
    max_file_bytes: u64,
    left: u64,
}

impl Work {
    fn parse(&mut self, file: &File) -> Result<Blob, Stop> {
        let skipped = |bytes, why| Ok(Blob::bare(file.oid.clone(), bytes, Some(why)));
        // Left out by the server, because it is too large; its size is not known.
        if frames::is_absent(&file.oid) {
            return skipped(self.max_file_bytes + 1, "too_large");
        }
        let id = oid(&file.oid)?;
        let (kind, bytes) = self
            .repository
            .size(&id)?
            .ok_or_else(|| Stop::Failed("parse_failed", "a file is missing".to_owned()))?;
        if kind != Kind::Blob {
            return Err(Stop::Failed(
                "parse_failed",
                "a file is none in the pack".to_owned(),
            ));
        }
        if bytes > self.max_file_bytes {
            return skipped(bytes, "too_large");
        }
        if let Some(why) = classify::by_path(&file.path) {
            return skipped(bytes, why);
        }
        let left = self.left.checked_sub(bytes);
        self.left = left.ok_or_else(|| {
            Stop::Failed(
                "repository_too_large",
                "the files of the branch are larger than the plan allows".to_owned(),
            )
        })?;
        let data = self.repository.read(&id, Kind::Blob, self.max_file_bytes)?;
        let data =
            data.ok_or_else(|| Stop::Failed("parse_failed", "a file is missing".to_owned()))?;
        let text = match classify::by_content(data) {
            Ok(text) => text,
            Err(why) => return skipped(bytes, why),
        };
        let mut blob = Blob::bare(file.oid.clone(), bytes, None);
        blob.lines = text.lines().count() as u64;
        if let Some(language) = Language::of_path(&file.path) {
            // A file that takes too long is found by its text.
            if let Ok(outline) = self
                .parser
                .parse(language, text.as_bytes(), Limits::default())
            {
                blob.language = Some(language.name.to_owned());
                blob.symbols = json(&outline.symbols)?;
                blob.references = json(&outline.references)?;
                blob.imports = json(&outline.imports)?;
                if blob.outline_size() > frames::MAX_OUTLINE {
                    let language = blob.language.take();
                    blob = Blob {
                        lines: blob.lines,
                        language,
                        ..Blob::bare(blob.oid, bytes, None)
                    };
                }
            }
        }
        blob.content = Some(text);
        Ok(blob)
    }
}

fn json(part: &impl Serialize) -> Result<String, Stop> {
    Ok(serde_json::to_string(part).map_err(io::Error::from)?)
}

//! The files of a commit, and how they differ from those of another one. Trees are compared, never what a push says.

use std::collections::BTreeMap;

use gix_hash::{Kind as HashKind, ObjectId};
use gix_object::{CommitRefIter, Kind, TreeRefIter};

use super::{
    files::{Filter, is_plain_name},
    frames::Entry,
    repository::{Repository, RepositoryError},
};

/// Bytes of a path; files with longer ones are left out.
const MAX_PATH: usize = 1_024;
/// Folders within folders.
const MAX_DEPTH: usize = 128;
/// Entries that are looked at for each file that there may be: a tree of trees of trees has more of them than any memory.
const VISITS_PER_FILE: usize = 20;

/// Why the files cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Too many.
    #[error("the branch has more than {0} files")]
    TooMany(usize),
    /// Something is missing or broken.
    #[error("the repository is not whole: {0}")]
    Broken(String),
    /// Reading.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

/// Tree and time of a commit.
pub fn commit(
    repository: &mut Repository,
    id: &ObjectId,
) -> Result<Option<(ObjectId, i64)>, TreeError> {
    let Some(data) = repository.read_small(id, Kind::Commit)? else {
        return Ok(None);
    };
    let broken = |error: &dyn std::fmt::Display| TreeError::Broken(error.to_string());
    let mut commit = CommitRefIter::from_bytes(&data, HashKind::Sha1);
    let tree = commit.tree_id().map_err(|error| broken(&error))?;
    // A commit may have any time, also none.
    let time = commit
        .committer()
        .ok()
        .and_then(|committer| committer.time().ok());
    Ok(Some((tree, time.map_or(0, |time| time.seconds))))
}

/// One entry of a tree.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Node {
    mode: u32,
    id: ObjectId,
}

impl Node {
    fn is_tree(self) -> bool {
        self.mode == 0o040_000
    }
}

/// Lists files. Symbolic links and submodules are none.
pub struct Listing<'a> {
    repository: &'a mut Repository,
    filter: &'a Filter,
    max_files: usize,
    visits: usize,
    entries: Vec<Entry>,
}

impl<'a> Listing<'a> {
    pub fn new(repository: &'a mut Repository, filter: &'a Filter, max_files: usize) -> Self {
        Self {
            repository,
            filter,
            max_files,
            visits: max_files
                .saturating_mul(VISITS_PER_FILE)
                .saturating_add(10_000),
            entries: Vec::new(),
        }
    }

    /// All files of a tree, or those that differ between two.
    pub fn between(
        mut self,
        base: Option<ObjectId>,
        tree: ObjectId,
    ) -> Result<Vec<Entry>, TreeError> {
        let mut pairs = vec![(String::new(), 0, base, Some(tree))];
        while let Some((folder, depth, before, after)) = pairs.pop() {
            if depth == MAX_DEPTH {
                continue;
            }
            let before = self.nodes(before)?;
            let after = self.nodes(after)?;
            let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let (old, new) = (before.get(name).copied(), after.get(name).copied());
                if old == new {
                    continue;
                }
                let path = match folder.as_str() {
                    "" => name.clone(),
                    folder => format!("{folder}/{name}"),
                };
                let tree_of =
                    |node: Option<Node>| node.filter(|node| node.is_tree()).map(|node| node.id);
                let (old_tree, new_tree) = (tree_of(old), tree_of(new));
                if old_tree.is_some() || new_tree.is_some() {
                    pairs.push((path.clone(), depth + 1, old_tree, new_tree));
                }
                let file_of = |node: Option<Node>| node.filter(|node| is_file(node.mode));
                self.add(path, file_of(old), file_of(new))?;
            }
        }
        Ok(self.entries)
    }

    fn add(&mut self, path: String, old: Option<Node>, new: Option<Node>) -> Result<(), TreeError> {
        let unwanted = path.len() > MAX_PATH || !self.filter.selects(&path);
        if (old.is_none() && new.is_none()) || unwanted {
            return Ok(());
        }
        // Deleted ones count as well: there can be as many as there were files.
        if self.entries.len() == self.max_files.saturating_mul(2) {
            return Err(TreeError::TooMany(self.max_files));
        }
        self.entries.push(Entry {
            path,
            oid: new.map(|node| node.id.to_string()),
            mode: new.or(old).map_or(0, |node| node.mode),
        });
        Ok(())
    }

    fn nodes(&mut self, tree: Option<ObjectId>) -> Result<BTreeMap<String, Node>, TreeError> {
        let mut nodes = BTreeMap::new();
        let Some(tree) = tree else {
            return Ok(nodes);
        };
        let data = self.repository.read_small(&tree, Kind::Tree)?;
        let data = data.ok_or_else(|| TreeError::Broken("a tree is missing".to_owned()))?;
        for entry in TreeRefIter::from_bytes(&data, HashKind::Sha1) {
            let entry = entry.map_err(|error| TreeError::Broken(error.to_string()))?;
            self.visits = self
                .visits
                .checked_sub(1)
                .ok_or(TreeError::TooMany(self.max_files))?;
            let Ok(name) = std::str::from_utf8(entry.filename) else {
                continue;
            };
            if is_plain_name(name) {
                let node = Node {
                    mode: u32::from(entry.mode.value()),
                    id: entry.oid.to_owned(),
                };
                nodes.insert(name.to_owned(), node);
            }
        }
        Ok(nodes)
    }
}

/// Not a link, which could point anywhere, and not a submodule, which is another repository.
fn is_file(mode: u32) -> bool {
    mode & 0o170_000 == 0o100_000
}

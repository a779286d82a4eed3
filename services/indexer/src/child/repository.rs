//! The packs of a repository. Objects are read by their ids; none is larger than it may be.

use std::{
    cell::RefCell,
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use gix_hash::Kind as HashKind;
use gix_object::Kind;
use gix_pack::{
    Bundle,
    bundle::write::Options,
    cache::lru::MemoryCappedHashmap,
    data::{decode::header::ResolvedBase, input::Mode},
};

/// Bytes of decoded objects that are kept, as bases of others.
const CACHE: usize = 32 << 20;
/// Bytes of a tree or a commit.
const MAX_TREE: u64 = 16 << 20;

/// Why an object cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// The pack, or an object, is broken or larger than it may be.
    #[error("{0}")]
    Corrupt(String),
    /// The folder.
    #[error("the cache cannot be read: {0}")]
    Disk(#[from] io::Error),
}

impl RepositoryError {
    fn corrupt(error: impl std::fmt::Display) -> Self {
        // Messages of the library may name paths of this machine.
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        Self::Corrupt(match line.contains('/') {
            true => "the pack cannot be read".to_owned(),
            false => line.chars().take(200).collect(),
        })
    }
}

/// Makes the index of a pack that was fetched, next to it. The pack itself is taken over under its own name, with the objects of
/// earlier packs that its deltas are based on.
pub fn add_pack(folder: &Path, pack: &Path, max_object: usize) -> Result<(), RepositoryError> {
    let mut input = io::BufReader::new(fs::File::open(pack)?);
    let earlier = Earlier(RefCell::new(Repository::open(folder, max_object)?));
    let options = Options {
        thread_limit: Some(1),
        iteration_mode: Mode::Verify,
        alloc_limit_bytes: Some(max_object),
        ..Options::default()
    };
    let written = Bundle::write_to_directory(
        &mut input,
        Some(folder),
        &mut gix_features::progress::Discard,
        &AtomicBool::new(false),
        Some(earlier),
        HashKind::Sha1,
        options,
    );
    let written = written.map_err(RepositoryError::corrupt)?;
    if let Some(keep) = written.keep_path {
        fs::remove_file(keep)?;
    }
    Ok(())
}

/// Bases of deltas.
struct Earlier(RefCell<Repository>);

impl gix_object::Find for Earlier {
    fn try_find<'a>(
        &self,
        id: &gix_hash::oid,
        buffer: &'a mut Vec<u8>,
    ) -> gix_error::Result<Option<gix_object::Data<'a>>> {
        let mut repository = self.0.borrow_mut();
        let found = repository.size(id).map_err(gix_error::Error::from_error)?;
        let Some((kind, size)) = found else {
            return Ok(None);
        };
        let read = repository.read(id, kind, size);
        Ok(read.map_err(gix_error::Error::from_error)?.map(|data| {
            *buffer = data;
            gix_object::Data {
                kind,
                data: buffer,
                object_hash: HashKind::Sha1,
            }
        }))
    }
}

/// The packs, and what reading needs.
pub struct Repository {
    bundles: Vec<Bundle>,
    inflate: gix_zlib::Inflate,
    cache: MemoryCappedHashmap,
}

impl Repository {
    /// All packs of the folder.
    pub fn open(folder: &Path, max_object: usize) -> Result<Self, RepositoryError> {
        let mut indexes: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "idx") {
                indexes.push(path);
            }
        }
        indexes.sort();
        let mut bundles = Vec::new();
        for index in indexes {
            let mut bundle =
                Bundle::at(&index, HashKind::Sha1).map_err(RepositoryError::corrupt)?;
            bundle.pack = bundle.pack.with_alloc_limit_bytes(Some(max_object));
            bundles.push(bundle);
        }
        Ok(Self {
            bundles,
            inflate: gix_zlib::Inflate::default(),
            cache: MemoryCappedHashmap::new(CACHE),
        })
    }

    /// Whether a pack has an object.
    pub fn has(&self, id: &gix_hash::oid) -> bool {
        let mut bundles = self.bundles.iter();
        bundles.any(|bundle| bundle.index.lookup(id).is_some())
    }

    /// The size of an object, without reading it; none if no pack has it.
    pub fn size(&mut self, id: &gix_hash::oid) -> Result<Option<(Kind, u64)>, RepositoryError> {
        for bundle in &self.bundles {
            let Some(index) = bundle.index.lookup(id) else {
                continue;
            };
            let entry = |index| bundle.pack.entry(bundle.index.pack_offset_at_index(index));
            let base = |id: &gix_hash::oid| {
                let index = bundle.index.lookup(id);
                index
                    .map(|index| entry(index).map(ResolvedBase::InPack))
                    .transpose()
            };
            let header = entry(index)
                .and_then(|entry| bundle.pack.decode_header(entry, &mut self.inflate, &base))
                .map_err(RepositoryError::corrupt)?;
            return Ok(Some((header.kind, header.object_size)));
        }
        Ok(None)
    }

    /// An object of this kind; none if no pack has it.
    pub fn read(
        &mut self,
        id: &gix_hash::oid,
        kind: Kind,
        max: u64,
    ) -> Result<Option<Vec<u8>>, RepositoryError> {
        let Some((found, size)) = self.size(id)? else {
            return Ok(None);
        };
        if found != kind || size > max {
            return Err(RepositoryError::Corrupt(format!(
                "an object is a {found} of {size} bytes"
            )));
        }
        let mut data = Vec::new();
        for bundle in &self.bundles {
            let read = bundle.find(id, &mut data, &mut self.inflate, &mut self.cache);
            if read.map_err(RepositoryError::corrupt)?.is_some() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// A tree or a commit.
    pub fn read_small(
        &mut self,
        id: &gix_hash::oid,
        kind: Kind,
    ) -> Result<Option<Vec<u8>>, RepositoryError> {
        self.read(id, kind, MAX_TREE)
    }
}

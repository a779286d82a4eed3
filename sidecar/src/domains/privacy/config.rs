//! The settings of privacy.

use std::path::PathBuf;

use kijko_core::{config::Reader, outbound::Url};

use crate::{api::Api, input_files::InputFiles};

/// Where exports are made and kept, and where erasures are written down.
pub(super) struct PrivacyConfig {
    /// The storage service. None: no exports.
    pub storage: Option<Url>,
    /// The API, which identifies who downloads.
    pub rest: Option<Url>,
    /// The file of the journal. None: no erasures.
    pub journal: Option<PathBuf>,
    /// Where an archive lies while it is made.
    pub folder: PathBuf,
    /// Bytes of the files in an archive. Those beyond are named in its manifest only.
    pub max_bytes: u64,
}

impl PrivacyConfig {
    pub(super) fn read(env: &mut Reader<'_>) -> Self {
        let journal = env.path("KIJKO_ERASURE_JOURNAL");
        let folder = env.path("KIJKO_EXPORT_DIR");
        Self {
            storage: InputFiles::url(env),
            rest: Api::url(env),
            journal,
            folder: folder.unwrap_or_else(std::env::temp_dir),
            max_bytes: env.number("KIJKO_EXPORT_MAX_BYTES", 40 << 20, 0..=1 << 40),
        }
    }
}

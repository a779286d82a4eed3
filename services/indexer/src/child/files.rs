//! Which files of a tree are indexed.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Bytes of a path; longer ones are left out.
const MAX_PATH: usize = 1_024;

/// The patterns of a repository.
pub struct Filter {
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Filter {
    /// Of these patterns. `*` stays within a folder, `**` does not; a folder means all that is in it.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, globset::Error> {
        Ok(Self {
            include: match include {
                [] => None,
                include => Some(set(include)?),
            },
            exclude: set(exclude)?,
        })
    }

    /// Whether a file is indexed.
    pub fn selects(&self, path: &str) -> bool {
        path.len() <= MAX_PATH
            && self
                .include
                .as_ref()
                .is_none_or(|include| include.is_match(path))
            && !self.exclude.is_match(path)
    }
}

fn set(patterns: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let pattern = pattern.trim_start_matches('/').trim_end_matches('/');
        let glob = |pattern: &str| GlobBuilder::new(pattern).literal_separator(true).build();
        set.add(glob(pattern)?);
        set.add(glob(&format!("{pattern}/**"))?);
    }
    set.build()
}

/// Whether a name in a tree is one that git itself would check out. Others are left out: they come from no honest client.
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && !matches!(name, "." | "..")
        && !name.eq_ignore_ascii_case(".git")
        && !name.contains(['/', '\0'])
        && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(include: &[&str], exclude: &[&str], path: &str) -> bool {
        let owned = |patterns: &[&str]| {
            patterns
                .iter()
                .map(|it| (*it).to_owned())
                .collect::<Vec<_>>()
        };
        Filter::new(&owned(include), &owned(exclude))
            .unwrap()
            .selects(path)
    }

    #[test]
    fn patterns_are_globs_and_folders() {
        for (include, exclude, path, selected) in [
            (&[][..], &[][..], "a/b.rs", true),
            (&["src/**"], &[], "src/a/b.rs", true),
            (&["src"], &[], "src/a/b.rs", true),
            (&["src/"], &[], "lib/src/b.rs", false),
            (&["*.rs"], &[], "a/b.rs", false),
            (&["**/*.rs"], &[], "a/b.rs", true),
            (&[], &["**/vendor/**"], "a/vendor/b.rs", false),
            (&[], &["**/vendor/**"], "vendor/b.rs", false),
            (&["src"], &["**/*.md"], "src/a.md", false),
        ] {
            assert_eq!(
                selects(include, exclude, path),
                selected,
                "{include:?} {exclude:?} {path}"
            );
        }
        assert!(!selects(&[], &[], &"a".repeat(1_025)));
        assert!(Filter::new(&["[".to_owned()], &[]).is_err());
    }

    #[test]
    fn names_that_no_client_makes_are_left_out() {
        for name in ["", ".", "..", ".git", ".GIT", "a/b", "a\0", "a\n"] {
            assert!(!is_plain_name(name), "{name:?}");
        }
        assert!(is_plain_name(".github"));
    }
}

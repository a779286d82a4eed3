//! What a language brings.

use tree_sitter::Node;

use crate::{
    languages,
    outline::{Import, SymbolKind},
};

/// A programming language.
///
/// The query of a language has these captures:
///
/// - `@symbol.<kind>`: a declaration, with `@name`, and with `@owner` if it is a member of a type that is declared elsewhere in the
///   file. Where several patterns match one name, the first one counts.
/// - `@scope` with `@owner`: a block whose declarations are members of that type.
/// - `@ref.<kind>`: the name that is used, with `@qualifier` for what stands before it. The first pattern that matches counts.
/// - `@import`: a statement that [`Language::imports`] reads.
pub struct Language {
    /// Its name in the database. Two grammars of one language have the same one.
    pub name: &'static str,
    /// What the names of its files end with.
    pub extensions: &'static [&'static str],
    pub(crate) grammar: fn() -> tree_sitter::Language,
    pub(crate) query: &'static [&'static str],
    /// The name in what `@name` captured.
    pub(crate) named: fn(Node<'_>, SymbolKind) -> Option<Node<'_>>,
    pub(crate) imports: fn(Node<'_>, &[u8], &mut Vec<Import>),
    /// Whether other files can use a declaration.
    pub(crate) exported: fn(&Declaration<'_>) -> bool,
    /// What a declaration is, where the query alone cannot say.
    pub(crate) kind: fn(&Declaration<'_>) -> SymbolKind,
    /// The documentation of a declaration.
    pub(crate) documentation: fn(Node<'_>, &[u8]) -> Option<String>,
}

/// A declaration as the query found it.
pub struct Declaration<'a> {
    pub(crate) node: Node<'a>,
    pub(crate) name: &'a str,
    pub(crate) kind: SymbolKind,
    pub(crate) source: &'a [u8],
}

impl Declaration<'_> {
    pub(crate) fn text(&self) -> &str {
        text(self.node, self.source)
    }
}

/// The text of a node.
pub(crate) fn text<'a>(node: Node<'_>, source: &'a [u8]) -> &'a str {
    source
        .get(node.byte_range())
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .unwrap_or_default()
}

/// Text of a string literal without its quotes.
pub(crate) fn unquoted<'a>(node: Node<'_>, source: &'a [u8]) -> &'a str {
    text(node, source).trim_matches(['"', '\'', '`', '<', '>'])
}

/// The line of a node, from 1.
pub(crate) fn line(node: Node<'_>) -> usize {
    node.start_position().row + 1
}

/// The children of a node that have a name in the grammar.
pub(crate) fn children<'a>(node: Node<'a>) -> Vec<Node<'a>> {
    node.named_children(&mut node.walk()).collect()
}

impl Language {
    /// All languages.
    pub fn all() -> &'static [Self] {
        &languages::ALL
    }

    /// The language of a file by its name.
    pub fn of_path(path: &str) -> Option<&'static Self> {
        let name = path.rsplit('/').next()?;
        let (_, extension) = name.rsplit_once('.')?;
        Self::all().iter().find(|language| {
            let mut all = language.extensions.iter();
            all.any(|other| other.eq_ignore_ascii_case(extension))
        })
    }
}

impl std::fmt::Debug for Language {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Language").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_that_of_the_extension() {
        let name = |path| Language::of_path(path).map(|language| language.name);
        for (path, language) in [
            ("src/main.rs", Some("rust")),
            ("a/b.TSX", Some("typescript")),
            ("index.d.ts", Some("typescript")),
            ("x.py/readme", None),
            ("Makefile", None),
            (".rs", Some("rust")),
            ("", None),
        ] {
            assert_eq!(name(path), language, "{path}");
        }
    }
}

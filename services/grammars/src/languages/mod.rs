//! The languages, each in one file.

mod c;
mod go;
mod java;
mod javascript;
mod python;
mod rust;
mod typescript;

use tree_sitter::Node;

use crate::{
    language::{Declaration, Language},
    outline::SymbolKind,
};

/// All of them. Adding one is a file, a line here and its crate.
pub static ALL: [Language; 8] = [
    rust::LANGUAGE,
    typescript::LANGUAGE,
    typescript::TSX,
    javascript::LANGUAGE,
    python::LANGUAGE,
    go::LANGUAGE,
    java::LANGUAGE,
    c::LANGUAGE,
];

/// The query says it all.
fn as_found(declaration: &Declaration<'_>) -> SymbolKind {
    declaration.kind
}

/// The captured node is the name.
fn as_captured(node: Node<'_>, _: SymbolKind) -> Option<Node<'_>> {
    Some(node)
}

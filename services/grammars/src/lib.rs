//! Symbols, references and imports of one file of source code, by tree-sitter.
//!
//! - [`language`]: what a language brings: its grammar, a query, and a few rules. Each is one file of `languages`.
//! - [`parse`]: a file within limits of time and number.
//! - [`outline`]: what a file declares and mentions, as it is stored.
//!
//! Parsing is bounded in time. What a hostile file does to a parser in C beyond that, such as memory, is for the caller to bound:
//! the indexer parses in a process of its own.
#![warn(missing_docs)]

mod documentation;
pub mod language;
mod languages;
pub mod outline;
mod parse;
mod query;
mod scopes;

pub use language::Language;
pub use outline::{Import, Outline, Reference, ReferenceKind, Symbol, SymbolKind};
pub use parse::{Limits, ParseError, Parser};

//! One file, within limits.
//!
//! 1. The grammar makes a syntax tree; the language's query finds declarations, uses and imports in it.
//! 2. Of matches of one name, that of the first pattern counts.
//! 3. [`scopes`](crate::scopes) says which symbol is around which.

use std::{
    collections::{HashMap, HashSet},
    ops::ControlFlow,
    time::{Duration, Instant},
};

use streaming_iterator::StreamingIterator;
use tree_sitter::{Node, ParseOptions, QueryCursor, QueryCursorOptions};

use crate::{
    language::{Declaration, Language, text},
    outline::{Import, Outline, Reference, ReferenceKind, Symbol, SymbolKind},
    query::{Compiled, Role},
    scopes::{Found, Scope, Scopes},
};

/// Bytes of a name; longer ones are left out.
const MAX_NAME: usize = 256;
/// Characters of a signature.
const MAX_SIGNATURE: usize = 400;
/// Bytes of a qualifier.
const MAX_QUALIFIER: usize = 120;
/// Matches that are in progress at the same time.
const MATCH_LIMIT: u32 = 4_096;

/// The limits of one file.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long it may take.
    pub time: Duration,
    /// Symbols; further ones are left out.
    pub symbols: usize,
    /// References; further ones are left out.
    pub references: usize,
    /// Imports; further ones are left out.
    pub imports: usize,
    /// Bytes of all signatures and documentations: of one comment, thousands of declarations may each have a copy. Further ones are
    /// left out.
    pub text_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(2),
            symbols: 5_000,
            references: 20_000,
            imports: 2_000,
            text_bytes: 1 << 20,
        }
    }
}

/// Why there is no outline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The time was over.
    #[error("parsing takes too long")]
    TimedOut,
    /// The grammar cannot be used.
    #[error("the grammar does not fit the parser")]
    Grammar,
}

/// Parses files one after the other.
#[derive(Default)]
pub struct Parser {
    parser: tree_sitter::Parser,
    cursor: QueryCursor,
}

impl Parser {
    /// The outline of a file.
    pub fn parse(
        &mut self,
        language: &Language,
        source: &[u8],
        limits: Limits,
    ) -> Result<Outline, ParseError> {
        let deadline = Instant::now() + limits.time;
        let go_on = move || match Instant::now() < deadline {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        };
        let compiled = Compiled::of(language)?;
        self.parser
            .set_language(&compiled.grammar)
            .map_err(|_| ParseError::Grammar)?;
        let mut watch = |_: &_| go_on();
        let options = ParseOptions::new().progress_callback(&mut watch);
        let mut read = |offset: usize, _| source.get(offset..).unwrap_or_default();
        let tree = self
            .parser
            .parse_with_options(&mut read, None, Some(options));
        let Some(tree) = tree else {
            // Otherwise the next file would go on where this one ended.
            self.parser.reset();
            return Err(ParseError::TimedOut);
        };

        let mut found = Matches::default();
        let mut watch = |_: &_| go_on();
        let options = QueryCursorOptions::new().progress_callback(&mut watch);
        self.cursor.set_match_limit(MATCH_LIMIT);
        let mut matches =
            self.cursor
                .matches_with_options(&compiled.query, tree.root_node(), source, options);
        while let Some(matched) = matches.next() {
            let captures = matched.captures().iter();
            let captures = captures.map(|it| (compiled.roles[it.index as usize], it.node));
            found.add(language, matched.pattern_index, captures);
            if go_on().is_break() {
                return Err(ParseError::TimedOut);
            }
        }
        drop(matches);
        if go_on().is_break() {
            return Err(ParseError::TimedOut);
        }
        found.outline(language, source, limits, &go_on)
    }
}

/// What the query has found.
#[derive(Default)]
struct Matches<'t> {
    /// By the place of the name: the pattern's number, the declaration, its kind, its name, its owner.
    symbols: HashMap<usize, (usize, Node<'t>, SymbolKind, Node<'t>, Option<Node<'t>>)>,
    /// By the place of the name: the pattern's number, the name, its kind, its qualifier.
    references: HashMap<usize, (usize, Node<'t>, ReferenceKind, Option<Node<'t>>)>,
    scopes: Vec<(Node<'t>, Node<'t>)>,
    imports: Vec<Node<'t>>,
}

impl<'t> Matches<'t> {
    fn add(
        &mut self,
        language: &Language,
        pattern: usize,
        captures: impl Iterator<Item = (Role, Node<'t>)>,
    ) {
        let (mut symbol, mut reference, mut scope) = (None, None, None);
        let (mut name, mut owner, mut qualifier) = (None, None, None);
        for (role, node) in captures {
            match role {
                Role::Symbol(kind) => symbol = Some((kind, node)),
                Role::Reference(kind) => reference = Some((kind, node)),
                Role::Name => name = Some(node),
                Role::Owner => owner = Some(node),
                Role::Qualifier => qualifier = Some(node),
                Role::Scope => scope = Some(node),
                Role::Import => self.imports.push(node),
                Role::Other => {}
            }
        }
        if let (Some((kind, node)), Some(name)) = (symbol, name)
            && let Some(name) = (language.named)(name, kind)
        {
            let new = (pattern, node, kind, name, owner);
            let known = self.symbols.entry(name.start_byte()).or_insert(new);
            if new.0 < known.0 {
                *known = new;
            }
        }
        if let Some((kind, name)) = reference {
            let new = (pattern, name, kind, qualifier);
            let known = self.references.entry(name.start_byte()).or_insert(new);
            if new.0 < known.0 {
                *known = new;
            }
        }
        if let (Some(scope), Some(owner)) = (scope, owner) {
            self.scopes.push((scope, owner));
        }
    }

    fn outline(
        self,
        language: &Language,
        source: &[u8],
        limits: Limits,
        go_on: &dyn Fn() -> ControlFlow<()>,
    ) -> Result<Outline, ParseError> {
        let named: HashSet<usize> = self.symbols.keys().copied().collect();
        let mut found: Vec<_> = self
            .symbols
            .into_values()
            .filter_map(|(_, node, kind, name_node, owner)| {
                let name = name_of(name_node, source)?;
                let owner = owner.and_then(|owner| owner_of(owner, source));
                Some(Found::new(node, kind, name, name_node, owner))
            })
            .collect();
        found.sort_by_key(Found::order);
        let scopes = self
            .scopes
            .into_iter()
            .filter_map(|(node, owner)| Some(Scope::new(node, owner_of(owner, source)?)));
        let scopes = Scopes::new(found, scopes.collect(), limits.symbols);

        let mut outline = Outline::default();
        let mut left = limits.text_bytes;
        let mut within = |text: String| {
            left = left.checked_sub(text.len())?;
            Some(text)
        };
        for placed in scopes.symbols() {
            if go_on().is_break() {
                return Err(ParseError::TimedOut);
            }
            let declaration = Declaration {
                node: placed.found.node,
                name: placed.found.name,
                kind: placed.kind,
                source,
            };
            let kind = (language.kind)(&declaration);
            let declaration = Declaration {
                kind,
                ..declaration
            };
            let (start, end) = (
                declaration.node.start_position(),
                declaration.node.end_position(),
            );
            let name = placed.found.name_node.start_position();
            outline.symbols.push(Symbol {
                ordinal: outline.symbols.len(),
                parent: placed.parent,
                name: declaration.name.to_owned(),
                kind,
                signature: within(signature(declaration.node, source)).unwrap_or_default(),
                documentation: (language.documentation)(declaration.node, source)
                    .and_then(&mut within),
                exported: (language.exported)(&declaration),
                start_line: start.row + 1,
                start_column: start.column,
                end_line: end.row + 1,
                end_column: end.column,
                name_line: name.row + 1,
                name_column: name.column,
            });
        }
        let references = self.references.into_iter();
        let references = references.filter(|(at, _)| !named.contains(at));
        let mut references: Vec<_> = references.map(|(_, reference)| reference).collect();
        references.sort_by_key(|(_, name, ..)| name.start_byte());
        outline.references = mentions(&references, &scopes, source, limits.references);
        for node in self.imports {
            (language.imports)(node, source, &mut outline.imports);
        }
        outline.imports.retain(short_enough);
        outline.imports.sort_by_key(|import| import.line);
        outline.imports.truncate(limits.imports);
        Ok(outline)
    }
}

type Mention<'t> = (usize, Node<'t>, ReferenceKind, Option<Node<'t>>);

/// References in the order of the text, with the symbol around each.
fn mentions(
    found: &[Mention<'_>],
    scopes: &Scopes<'_>,
    source: &[u8],
    limit: usize,
) -> Vec<Reference> {
    let around = scopes.around(found.iter().map(|(_, name, ..)| name.start_byte()));
    let mut seen = HashSet::new();
    let mut references = Vec::new();
    for ((_, node, kind, qualifier), symbol) in found.iter().zip(around) {
        let Some(name) = name_of(*node, source) else {
            continue;
        };
        let repeats = matches!(kind, ReferenceKind::Type | ReferenceKind::Use);
        if repeats && !seen.insert((symbol, name, *kind)) {
            continue;
        }
        if references.len() == limit {
            break;
        }
        let at = node.start_position();
        references.push(Reference {
            symbol,
            name: name.to_owned(),
            qualifier: qualifier.map(|node| qualifier_of(node, source)),
            kind: *kind,
            line: at.row + 1,
            column: at.column,
        });
    }
    references
}

fn name_of<'a>(node: Node<'_>, source: &'a [u8]) -> Option<&'a str> {
    let name = text(node, source).trim_matches(['"', '\'']);
    (!name.is_empty() && name.len() <= MAX_NAME && !name.contains('\n')).then_some(name)
}

/// The name of a type without what surrounds it: `*T`, `T<A>`, `a::T`.
fn owner_of<'a>(node: Node<'_>, source: &'a [u8]) -> Option<&'a str> {
    let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    let owner = text(node, source);
    let bare = owner.split(['<', '[']).next()?.trim_end();
    let name = bare.rsplit(|letter| !is_name(letter)).next()?;
    (!name.is_empty() && name.len() <= MAX_NAME).then_some(name)
}

fn qualifier_of(node: Node<'_>, source: &[u8]) -> String {
    let is_path = |letter: char| letter.is_alphanumeric() || "_$.:?".contains(letter);
    let text = text(node, source);
    match !text.is_empty() && text.len() <= MAX_QUALIFIER && text.chars().all(is_path) {
        true => text.to_owned(),
        false => "()".to_owned(),
    }
}

fn short_enough(import: &Import) -> bool {
    let short = |name: &Option<String>| name.as_ref().is_none_or(|name| name.len() <= MAX_NAME);
    !import.module.is_empty()
        && import.module.len() <= 2 * MAX_NAME
        && short(&import.name)
        && short(&import.alias)
}

/// A declaration without its body, in one line.
fn signature(node: Node<'_>, source: &[u8]) -> String {
    let body = node.child_by_field_name("body").or_else(|| {
        let value = ["value", "right", "type"];
        let mut value = value
            .iter()
            .filter_map(|name| node.child_by_field_name(name));
        value.find_map(|value| match value.kind() {
            "struct_type" | "interface_type" => value.named_child(0),
            _ => value.child_by_field_name("body"),
        })
    });
    let end = body.map_or(node.end_byte(), |body| body.start_byte());
    // More than this is cut in any case.
    let end = end.min(node.start_byte() + 4 * MAX_SIGNATURE);
    let head = String::from_utf8_lossy(source.get(node.start_byte()..end).unwrap_or_default());
    let mut line = String::new();
    for word in head.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let line = line.trim_end_matches(['{', ' ', ':', ';', ',']);
    line.chars().take(MAX_SIGNATURE).collect()
}

#[cfg(test)]
mod tests;

//! Which symbol is around which, and around each use of a name: one pass over ranges that are sorted by where they begin.

use std::{cmp::Reverse, collections::HashMap};

use tree_sitter::Node;

use crate::outline::SymbolKind;

/// A declaration that the query found.
pub struct Found<'a> {
    pub node: Node<'a>,
    pub name: &'a str,
    pub name_node: Node<'a>,
    kind: SymbolKind,
    owner: Option<&'a str>,
}

impl<'a> Found<'a> {
    pub fn new<'t: 'a>(
        node: Node<'t>,
        kind: SymbolKind,
        name: &'a str,
        name_node: Node<'t>,
        owner: Option<&'a str>,
    ) -> Self {
        Self {
            node,
            name,
            name_node,
            kind,
            owner,
        }
    }

    /// Those that begin earlier first; of those that begin together, the larger one.
    pub fn order(&self) -> (usize, Reverse<usize>, usize) {
        let name = self.name_node.start_byte();
        (self.node.start_byte(), Reverse(self.node.end_byte()), name)
    }
}

/// A block whose declarations are members of a type.
pub struct Scope<'a> {
    start: usize,
    end: usize,
    owner: &'a str,
}

impl<'a> Scope<'a> {
    pub fn new(node: Node<'_>, owner: &'a str) -> Self {
        Self {
            start: node.start_byte(),
            end: node.end_byte(),
            owner,
        }
    }
}

/// A symbol with its place.
pub struct Placed<'a> {
    pub found: Found<'a>,
    pub kind: SymbolKind,
    pub parent: Option<usize>,
}

/// Ranges lie within each other or apart, so the last one ends first.
fn leave<T>(stack: &mut Vec<(usize, T)>, place: usize) {
    while stack.last().is_some_and(|(end, _)| *end <= place) {
        stack.pop();
    }
}

/// All symbols of a file. Their numbers are their places in the list.
pub struct Scopes<'a> {
    symbols: Vec<Placed<'a>>,
}

/// What is around the place that the pass has come to.
enum Around<'a> {
    /// A symbol: its number (none if it was left out), and its kind.
    Symbol(Option<usize>, SymbolKind),
    /// A scope, with the name of the type.
    Scope(&'a str),
}

impl<'a> Scopes<'a> {
    /// `found` is sorted by [`Found::order`]. Local variables are left out, and what is beyond `limit`.
    pub fn new(found: Vec<Found<'a>>, mut scopes: Vec<Scope<'a>>, limit: usize) -> Self {
        scopes.sort_by_key(|scope| (scope.start, Reverse(scope.end)));
        let mut scopes = scopes.into_iter().peekable();
        let mut types: HashMap<&str, usize> = HashMap::new();
        let mut stack: Vec<(usize, Around<'a>)> = Vec::new();
        let mut symbols: Vec<Placed<'a>> = Vec::new();
        // Types may stand below their members, so names of owners are looked up at the end.
        let mut owners: Vec<(usize, &str)> = Vec::new();
        let mut previous = None;
        for found in found {
            let (start, end) = (found.node.start_byte(), found.node.end_byte());
            while let Some(scope) = scopes.next_if(|scope| scope.start <= start) {
                leave(&mut stack, scope.start);
                stack.push((scope.end, Around::Scope(scope.owner)));
            }
            leave(&mut stack, start);
            // `int a, b;` declares two: neither is in the other.
            if previous == Some(found.node.id()) {
                stack.pop();
            }
            previous = Some(found.node.id());
            let is_type = found.kind.has_members();
            let mut parent = None;
            let mut owner = found.owner;
            let mut in_type = owner.is_some();
            let mut local = false;
            if owner.is_none() {
                for (_, around) in stack.iter().rev() {
                    match around {
                        // A type that is declared where it is used belongs to nothing: `typedef struct a {} b;`.
                        Around::Symbol(
                            _,
                            SymbolKind::Type | SymbolKind::Variable | SymbolKind::Field,
                        ) if is_type => {}
                        Around::Symbol(number, kind) => {
                            parent = *number;
                            in_type = kind.has_members();
                            local = kind.runs();
                            break;
                        }
                        Around::Scope(name) => {
                            owner = Some(name);
                            in_type = true;
                            break;
                        }
                    }
                }
            }
            let is_variable = matches!(found.kind, SymbolKind::Variable | SymbolKind::Constant);
            let kind = match found.kind {
                SymbolKind::Function if in_type => SymbolKind::Method,
                kind => kind,
            };
            let kept = symbols.len() < limit && !(local && is_variable);
            let number = kept.then_some(symbols.len());
            stack.push((end, Around::Symbol(number, kind)));
            let Some(number) = number else {
                continue;
            };
            if is_type {
                types.entry(found.name).or_insert(number);
            }
            if let Some(owner) = owner {
                owners.push((number, owner));
            }
            symbols.push(Placed {
                found,
                kind,
                parent,
            });
        }
        for (number, owner) in owners {
            symbols[number].parent = types.get(owner).copied().filter(|owner| *owner != number);
        }
        Self { symbols }
    }

    pub fn symbols(&self) -> &[Placed<'a>] {
        &self.symbols
    }

    /// The number of the innermost symbol around each of these places, which are sorted.
    pub fn around(&self, places: impl Iterator<Item = usize>) -> Vec<Option<usize>> {
        let mut next = 0;
        let mut stack: Vec<(usize, usize)> = Vec::new();
        let around = places.map(|place| {
            while let Some(symbol) = self.symbols.get(next)
                && symbol.found.node.start_byte() <= place
            {
                let start = symbol.found.node.start_byte();
                leave(&mut stack, start);
                stack.push((symbol.found.node.end_byte(), next));
                next += 1;
            }
            leave(&mut stack, place);
            stack.last().map(|(_, number)| *number)
        });
        around.collect()
    }
}

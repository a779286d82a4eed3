//! Python.

use tree_sitter::Node;

use super::as_captured;
use crate::{
    documentation,
    language::{Declaration, Language, children, line, text},
    outline::{Import, SymbolKind},
};

pub const LANGUAGE: Language = Language {
    name: "python",
    extensions: &["py", "pyi"],
    grammar: || tree_sitter_python::LANGUAGE.into(),
    query: &[QUERY],
    named: as_captured,
    imports,
    exported,
    kind,
    documentation,
};

const QUERY: &str = "
(class_definition name: (identifier) @name) @symbol.class
(function_definition name: (identifier) @name) @symbol.function
(type_alias_statement left: (type (identifier) @name)) @symbol.type
(module (expression_statement (assignment left: (identifier) @name) @symbol.variable))
(module (if_statement (block (expression_statement (assignment left: (identifier) @name) @symbol.variable))))
(class_definition body: (block (expression_statement (assignment left: (identifier) @name) @symbol.field)))

(call function: (identifier) @ref.call)
(call function: (attribute object: (_) @qualifier attribute: (identifier) @ref.call))
(class_definition superclasses: (argument_list (identifier) @ref.extends))
(class_definition superclasses: (argument_list (attribute object: (_) @qualifier attribute: (identifier) @ref.extends)))
(class_definition superclasses: (argument_list (subscript value: (identifier) @ref.extends)))
(decorator (identifier) @ref.use)
(decorator (attribute object: (_) @qualifier attribute: (identifier) @ref.use))
(type (identifier) @ref.type)
(type (attribute object: (_) @qualifier attribute: (identifier) @ref.type))
(type (generic_type (identifier) @ref.type))

(import_statement) @import
(import_from_statement) @import
";

fn imports(node: Node<'_>, source: &[u8], imports: &mut Vec<Import>) {
    let from = node.child_by_field_name("module_name");
    let module = from.map(|from| text(from, source).to_owned());
    let mut cursor = node.walk();
    let names: Vec<_> = node.children_by_field_name("name", &mut cursor).collect();
    let wildcard = children(node)
        .iter()
        .any(|child| child.kind() == "wildcard_import");
    let line = line(node);
    let mut push = |path: &str, alias: Option<&str>| {
        let (module, name) = match &module {
            Some(module) => (module.clone(), Some(path.to_owned())),
            None => (path.to_owned(), None),
        };
        let alias = alias.map(str::to_owned);
        imports.push(Import {
            module,
            name,
            alias,
            line,
        });
    };
    for name in names {
        let path = name.child_by_field_name("name").unwrap_or(name);
        let alias = name.child_by_field_name("alias");
        push(text(path, source), alias.map(|alias| text(alias, source)));
    }
    if wildcard {
        push("*", None);
    }
}

fn kind(declaration: &Declaration<'_>) -> SymbolKind {
    let is_constant = || {
        let mut letters = declaration
            .name
            .chars()
            .filter(|letter| letter.is_alphabetic());
        letters.clone().count() > 0 && letters.all(char::is_uppercase)
    };
    match declaration.kind {
        SymbolKind::Variable if is_constant() => SymbolKind::Constant,
        SymbolKind::Method if declaration.name == "__init__" => SymbolKind::Constructor,
        kind => kind,
    }
}

fn exported(declaration: &Declaration<'_>) -> bool {
    let name = declaration.name;
    !name.starts_with('_') || (name.starts_with("__") && name.ends_with("__"))
}

/// The docstring, or else the comment above.
fn documentation(node: Node<'_>, source: &[u8]) -> Option<String> {
    let first = node
        .child_by_field_name("body")
        .and_then(|body| body.named_child(0))
        .and_then(|statement| statement.named_child(0));
    if let Some(first) = first
        && first.kind() == "string"
    {
        let text = text(first, source);
        let text = text.trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
        return documentation::limited(text.trim_matches(['"', '\'']));
    }
    documentation::above(
        node,
        source,
        &["decorated_definition", "expression_statement"],
        &[],
        |_| true,
    )
}

//! C.

use tree_sitter::Node;

use super::as_found;
use crate::{
    documentation,
    language::{Declaration, Language, children, line, text, unquoted},
    outline::{Import, SymbolKind},
};

pub const LANGUAGE: Language = Language {
    name: "c",
    extensions: &["c", "h"],
    grammar: || tree_sitter_c::LANGUAGE.into(),
    query: &[QUERY],
    named,
    imports,
    exported,
    kind: as_found,
    documentation,
};

// Declarations of functions are not listed, only definitions.
const QUERY: &str = "
(function_definition declarator: (_) @name) @symbol.function
(struct_specifier name: (type_identifier) @name body: (_)) @symbol.struct
(union_specifier name: (type_identifier) @name body: (_)) @symbol.struct
(enum_specifier name: (type_identifier) @name body: (_)) @symbol.enum
(enumerator name: (identifier) @name) @symbol.variant
(type_definition declarator: (_) @name) @symbol.type
(preproc_def name: (identifier) @name) @symbol.macro
(preproc_function_def name: (identifier) @name) @symbol.macro
(declaration declarator: (_) @name) @symbol.variable
(field_declaration declarator: (_) @name) @symbol.field

(call_expression function: (identifier) @ref.call)
(call_expression function: (field_expression argument: (_) @qualifier field: (field_identifier) @ref.call))
(type_identifier) @ref.type

(preproc_include) @import
";

/// Declarators may be nested so deep.
const MAX_DEPTH: usize = 16;

/// The name in `*(*name[3])(int)`. A declaration of a function is no variable.
fn named(node: Node<'_>, kind: SymbolKind) -> Option<Node<'_>> {
    let mut node = node;
    for _ in 0..MAX_DEPTH {
        let inner = match node.kind() {
            "parenthesized_declarator" => node.named_child(0),
            "identifier" | "field_identifier" | "type_identifier" => return Some(node),
            _ => node.child_by_field_name("declarator"),
        }?;
        let is_prototype =
            node.kind() == "function_declarator" && inner.kind() != "parenthesized_declarator";
        if is_prototype && kind != SymbolKind::Function && kind != SymbolKind::Type {
            return None;
        }
        node = inner;
    }
    None
}

fn imports(node: Node<'_>, source: &[u8], imports: &mut Vec<Import>) {
    if let Some(path) = node.child_by_field_name("path") {
        imports.push(Import {
            module: unquoted(path, source).to_owned(),
            name: None,
            alias: None,
            line: line(node),
        });
    }
}

fn exported(declaration: &Declaration<'_>) -> bool {
    !children(declaration.node).iter().any(|child| {
        child.kind() == "storage_class_specifier" && text(*child, declaration.source) == "static"
    })
}

fn documentation(node: Node<'_>, source: &[u8]) -> Option<String> {
    documentation::above(node, source, &[], &[], |_| true)
}

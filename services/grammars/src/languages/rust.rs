//! Rust.

use tree_sitter::Node;

use super::{as_captured, as_found};
use crate::{
    documentation,
    language::{Declaration, Language, children, line, text},
    outline::{Import, SymbolKind},
};

pub const LANGUAGE: Language = Language {
    name: "rust",
    extensions: &["rs"],
    grammar: || tree_sitter_rust::LANGUAGE.into(),
    query: &[QUERY],
    named: as_captured,
    imports,
    exported,
    kind: as_found,
    documentation,
};

const QUERY: &str = r#"
(struct_item name: (type_identifier) @name) @symbol.struct
(union_item name: (type_identifier) @name) @symbol.struct
(enum_item name: (type_identifier) @name) @symbol.enum
(enum_variant name: (identifier) @name) @symbol.variant
(type_item name: (type_identifier) @name) @symbol.type
(associated_type name: (type_identifier) @name) @symbol.type
(trait_item name: (type_identifier) @name) @symbol.trait
(mod_item name: (identifier) @name) @symbol.module
(macro_definition name: (identifier) @name) @symbol.macro
(const_item name: (identifier) @name) @symbol.constant
(static_item name: (identifier) @name) @symbol.variable
(field_declaration name: (field_identifier) @name) @symbol.field
(function_item name: (identifier) @name) @symbol.function
(function_signature_item name: (identifier) @name) @symbol.function

(impl_item type: (_) @owner) @scope

(call_expression function: (identifier) @ref.call)
(call_expression function: (field_expression value: (_) @qualifier field: (field_identifier) @ref.call))
(call_expression function: (scoped_identifier path: (_) @qualifier name: (identifier) @ref.call))
(generic_function function: (identifier) @ref.call)
(generic_function function: (scoped_identifier path: (_) @qualifier name: (identifier) @ref.call))
(generic_function function: (field_expression value: (_) @qualifier field: (field_identifier) @ref.call))
(macro_invocation macro: (identifier) @ref.call)
(macro_invocation macro: (scoped_identifier path: (_) @qualifier name: (identifier) @ref.call))
; Arguments of a macro are no syntax tree: a name before a parenthesis is a call.
(token_tree (identifier) @ref.call . (token_tree "("))
(impl_item trait: (type_identifier) @ref.implements)
(impl_item trait: (scoped_type_identifier path: (_) @qualifier name: (type_identifier) @ref.implements))
(impl_item trait: (generic_type type: (type_identifier) @ref.implements))
(trait_item bounds: (trait_bounds (type_identifier) @ref.extends))
(struct_expression name: (type_identifier) @ref.use)
(scoped_type_identifier path: (_) @qualifier name: (type_identifier) @ref.type)
(type_identifier) @ref.type

(use_declaration) @import
(extern_crate_declaration) @import
"#;

/// Trees of `use` may be nested so deep.
const MAX_DEPTH: usize = 16;

fn imports(node: Node<'_>, source: &[u8], imports: &mut Vec<Import>) {
    let line = line(node);
    if node.kind() == "extern_crate_declaration" {
        if let Some(name) = node.child_by_field_name("name") {
            imports.push(Import {
                module: text(name, source).to_owned(),
                name: None,
                alias: node
                    .child_by_field_name("alias")
                    .map(|alias| text(alias, source).to_owned()),
                line,
            });
        }
    } else if let Some(tree) = node.child_by_field_name("argument") {
        use_tree(tree, source, "", MAX_DEPTH, imports);
    }
}

fn use_tree(node: Node<'_>, source: &[u8], prefix: &str, depth: usize, imports: &mut Vec<Import>) {
    if depth == 0 {
        return;
    }
    let under = |path: &str| match prefix {
        "" => path.to_owned(),
        prefix => format!("{prefix}::{path}"),
    };
    let mut push = |path: &str, alias: Option<&str>| {
        let path = under(path);
        let (module, name) = match path.rsplit_once("::") {
            Some((module, "self")) => (module.to_owned(), None),
            Some((module, name)) => (module.to_owned(), Some(name.to_owned())),
            None => (path, None),
        };
        imports.push(Import {
            module,
            name,
            alias: alias.map(str::to_owned),
            line: line(node),
        });
    };
    match node.kind() {
        "use_as_clause" => {
            let path = node.child_by_field_name("path");
            let alias = node.child_by_field_name("alias");
            if let (Some(path), Some(alias)) = (path, alias) {
                push(text(path, source), Some(text(alias, source)));
            }
        }
        "use_wildcard" => {
            let path = text(node, source);
            push(path, None);
        }
        "use_list" => {
            for child in children(node) {
                use_tree(child, source, prefix, depth - 1, imports);
            }
        }
        "scoped_use_list" => {
            let path = node.child_by_field_name("path");
            let path = path.map_or("", |path| text(path, source));
            let prefix = if path.is_empty() {
                prefix.to_owned()
            } else {
                under(path)
            };
            if let Some(list) = node.child_by_field_name("list") {
                use_tree(list, source, &prefix, depth - 1, imports);
            }
        }
        "identifier" | "scoped_identifier" | "self" | "crate" | "super" => {
            push(text(node, source), None);
        }
        _ => {}
    }
}

/// Variants, and members of a trait, are as visible as what they belong to.
fn exported(declaration: &Declaration<'_>) -> bool {
    declaration.kind == SymbolKind::Variant
        || declaration.kind == SymbolKind::Macro
        || children(declaration.node)
            .iter()
            .any(|child| child.kind() == "visibility_modifier")
}

fn documentation(node: Node<'_>, source: &[u8]) -> Option<String> {
    let documents = |comment: &str| comment.starts_with("///") || comment.starts_with("/**");
    documentation::above(node, source, &[], &["attribute_item"], documents)
}

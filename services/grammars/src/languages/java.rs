//! Java.

use tree_sitter::Node;

use super::as_captured;
use crate::{
    documentation,
    language::{Declaration, Language, children, line, text},
    outline::{Import, SymbolKind},
};

pub const LANGUAGE: Language = Language {
    name: "java",
    extensions: &["java"],
    grammar: || tree_sitter_java::LANGUAGE.into(),
    query: &[QUERY],
    named: as_captured,
    imports,
    exported,
    kind,
    documentation,
};

const QUERY: &str = "
(package_declaration [(identifier) (scoped_identifier)] @name) @symbol.module
(class_declaration name: (identifier) @name) @symbol.class
(record_declaration name: (identifier) @name) @symbol.class
(interface_declaration name: (identifier) @name) @symbol.interface
(annotation_type_declaration name: (identifier) @name) @symbol.interface
(enum_declaration name: (identifier) @name) @symbol.enum
(enum_constant name: (identifier) @name) @symbol.variant
(method_declaration name: (identifier) @name) @symbol.method
(annotation_type_element_declaration name: (identifier) @name) @symbol.method
(constructor_declaration name: (identifier) @name) @symbol.constructor
(compact_constructor_declaration name: (identifier) @name) @symbol.constructor
(field_declaration declarator: (variable_declarator name: (identifier) @name)) @symbol.field
(constant_declaration declarator: (variable_declarator name: (identifier) @name)) @symbol.constant

(method_invocation object: (_) @qualifier name: (identifier) @ref.call)
(method_invocation name: (identifier) @ref.call)
(object_creation_expression type: (type_identifier) @ref.call)
(object_creation_expression type: (generic_type (type_identifier) @ref.call))
(superclass (type_identifier) @ref.extends)
(superclass (generic_type (type_identifier) @ref.extends))
(super_interfaces (type_list (type_identifier) @ref.implements))
(super_interfaces (type_list (generic_type (type_identifier) @ref.implements)))
(extends_interfaces (type_list (type_identifier) @ref.extends))
(extends_interfaces (type_list (generic_type (type_identifier) @ref.extends)))
(marker_annotation name: (identifier) @ref.use)
(annotation name: (identifier) @ref.use)
(type_identifier) @ref.type

(import_declaration) @import
";

fn imports(node: Node<'_>, source: &[u8], imports: &mut Vec<Import>) {
    let parts = children(node);
    let Some(path) = parts.iter().find(|part| part.kind() != "asterisk") else {
        return;
    };
    let path = text(*path, source);
    let (module, name) = if parts.iter().any(|part| part.kind() == "asterisk") {
        (path, Some("*"))
    } else {
        match path.rsplit_once('.') {
            Some((module, name)) => (module, Some(name)),
            None => (path, None),
        }
    };
    imports.push(Import {
        module: module.to_owned(),
        name: name.map(str::to_owned),
        alias: None,
        line: line(node),
    });
}

fn modifiers<'a>(declaration: &Declaration<'a>) -> &'a str {
    let all = children(declaration.node);
    let modifiers = all.iter().find(|child| child.kind() == "modifiers");
    modifiers.map_or("", |modifiers| text(*modifiers, declaration.source))
}

fn kind(declaration: &Declaration<'_>) -> SymbolKind {
    let modifiers = modifiers(declaration);
    match declaration.kind {
        SymbolKind::Field if modifiers.contains("static") && modifiers.contains("final") => {
            SymbolKind::Constant
        }
        kind => kind,
    }
}

/// Members of an interface have no modifier, nor have variants.
fn exported(declaration: &Declaration<'_>) -> bool {
    let of_interface = declaration
        .node
        .parent()
        .is_some_and(|parent| parent.kind().starts_with("interface"));
    matches!(declaration.kind, SymbolKind::Variant | SymbolKind::Module)
        || of_interface
        || modifiers(declaration).contains("public")
}

fn documentation(node: Node<'_>, source: &[u8]) -> Option<String> {
    documentation::above(node, source, &[], &[], |_| true)
}

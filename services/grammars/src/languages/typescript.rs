//! TypeScript and TSX: JavaScript's query and more.

use super::as_captured;
use super::javascript::{JSX, SHARED, documentation, exported, imports, kind};
use crate::language::Language;

pub const LANGUAGE: Language = Language {
    name: "typescript",
    extensions: &["ts", "mts", "cts"],
    grammar: || tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(),
    query: &[SHARED, OWN],
    named: as_captured,
    imports,
    exported,
    kind,
    documentation,
};

pub const TSX: Language = Language {
    name: "typescript",
    extensions: &["tsx"],
    grammar: || tree_sitter_typescript::LANGUAGE_TSX.into(),
    query: &[SHARED, JSX, OWN],
    named: as_captured,
    imports,
    exported,
    kind,
    documentation,
};

const OWN: &str = "
(abstract_class_declaration name: (type_identifier) @name) @symbol.class
(interface_declaration name: (type_identifier) @name) @symbol.interface
(type_alias_declaration name: (type_identifier) @name) @symbol.type
(enum_declaration name: (identifier) @name) @symbol.enum
(enum_body name: (property_identifier) @name @symbol.variant)
(enum_assignment name: (property_identifier) @name) @symbol.variant
(internal_module name: (_) @name) @symbol.module
(module name: (_) @name) @symbol.module
(function_signature name: (identifier) @name) @symbol.function
(method_signature name: (property_identifier) @name) @symbol.method
(abstract_method_signature name: (property_identifier) @name) @symbol.method
(public_field_definition name: [(property_identifier) (private_property_identifier)] @name) @symbol.field
(interface_body (property_signature name: (property_identifier) @name) @symbol.property)

(extends_clause value: (identifier) @ref.extends)
(extends_clause value: (member_expression object: (_) @qualifier property: (property_identifier) @ref.extends))
(extends_type_clause type: (type_identifier) @ref.extends)
(extends_type_clause type: (generic_type name: (type_identifier) @ref.extends))
(implements_clause (type_identifier) @ref.implements)
(implements_clause (generic_type name: (type_identifier) @ref.implements))
(nested_type_identifier module: (_) @qualifier name: (type_identifier) @ref.type)
(type_identifier) @ref.type
";

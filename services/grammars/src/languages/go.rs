//! Go.

use tree_sitter::Node;

use super::{as_captured, as_found};
use crate::{
    documentation,
    language::{Declaration, Language, line, text, unquoted},
    outline::{Import, SymbolKind},
};

pub const LANGUAGE: Language = Language {
    name: "go",
    extensions: &["go"],
    grammar: || tree_sitter_go::LANGUAGE.into(),
    query: &[QUERY],
    named: as_captured,
    imports,
    exported,
    kind: as_found,
    documentation,
};

const QUERY: &str = "
(package_clause (package_identifier) @name) @symbol.module
(function_declaration name: (identifier) @name) @symbol.function
(method_declaration
  receiver: (parameter_list (parameter_declaration type: (_) @owner))
  name: (field_identifier) @name) @symbol.method
(type_spec name: (type_identifier) @name type: (struct_type)) @symbol.struct
(type_spec name: (type_identifier) @name type: (interface_type)) @symbol.interface
(type_spec name: (type_identifier) @name) @symbol.type
(type_alias name: (type_identifier) @name) @symbol.type
(const_spec name: (identifier) @name) @symbol.constant
(var_spec name: (identifier) @name) @symbol.variable
(field_declaration name: (field_identifier) @name) @symbol.field
(method_elem name: (field_identifier) @name) @symbol.method

(call_expression function: (identifier) @ref.call)
(call_expression function: (selector_expression operand: (_) @qualifier field: (field_identifier) @ref.call))
(call_expression function: (type_instantiation_expression type: (type_identifier) @ref.call))
(type_conversion_expression type: (generic_type type: (type_identifier) @ref.call))
(field_declaration !name type: (type_identifier) @ref.extends)
(composite_literal type: (type_identifier) @ref.use)
(qualified_type package: (package_identifier) @qualifier name: (type_identifier) @ref.type)
(type_identifier) @ref.type

(import_spec) @import
";

fn imports(node: Node<'_>, source: &[u8], imports: &mut Vec<Import>) {
    let Some(path) = node.child_by_field_name("path") else {
        return;
    };
    let alias = node.child_by_field_name("name");
    let alias = alias.map(|alias| text(alias, source));
    imports.push(Import {
        module: unquoted(path, source).to_owned(),
        name: (alias == Some(".")).then(|| "*".to_owned()),
        alias: alias.filter(|alias| *alias != ".").map(str::to_owned),
        line: line(node),
    });
}

fn exported(declaration: &Declaration<'_>) -> bool {
    declaration.kind == SymbolKind::Module
        || declaration
            .name
            .chars()
            .next()
            .is_some_and(char::is_uppercase)
}

fn documentation(node: Node<'_>, source: &[u8]) -> Option<String> {
    let wrappers: &[&str] = match node.parent() {
        // Of a group, each has its own comment.
        Some(parent) if parent.named_child_count() > 1 => &[],
        _ => &["type_declaration", "const_declaration", "var_declaration"],
    };
    documentation::above(node, source, wrappers, &[], |_| true)
}

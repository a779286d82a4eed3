//! JavaScript, and what TypeScript shares with it.

use tree_sitter::Node;

use super::as_captured;
use crate::{
    documentation,
    language::{Declaration, Language, children, line, text, unquoted},
    outline::{Import, SymbolKind},
};

pub const LANGUAGE: Language = Language {
    name: "javascript",
    extensions: &["js", "mjs", "cjs", "jsx"],
    grammar: || tree_sitter_javascript::LANGUAGE.into(),
    query: &[SHARED, JSX, OWN],
    named: as_captured,
    imports,
    exported,
    kind,
    documentation,
};

/// For the grammars of JavaScript, TypeScript and TSX.
pub const SHARED: &str = r#"
(class_declaration name: (_) @name) @symbol.class
(class name: (_) @name) @symbol.class
(function_declaration name: (identifier) @name) @symbol.function
(generator_function_declaration name: (identifier) @name) @symbol.function
(method_definition name: [(property_identifier) (private_property_identifier)] @name) @symbol.method
(variable_declarator name: (identifier) @name value: [(arrow_function) (function_expression) (generator_function)]) @symbol.function
(assignment_expression
  left: (member_expression property: (property_identifier) @name)
  right: [(arrow_function) (function_expression) (generator_function)]) @symbol.function
(pair key: (property_identifier) @name value: [(arrow_function) (function_expression) (generator_function)]) @symbol.function
(program (lexical_declaration (variable_declarator name: (identifier) @name) @symbol.variable))
(program (variable_declaration (variable_declarator name: (identifier) @name) @symbol.variable))
(program (export_statement (lexical_declaration (variable_declarator name: (identifier) @name) @symbol.variable)))
(program (export_statement (variable_declaration (variable_declarator name: (identifier) @name) @symbol.variable)))

(call_expression function: (identifier) @ref.call)
(call_expression function: (member_expression object: (_) @qualifier property: (property_identifier) @ref.call))
(new_expression constructor: (identifier) @ref.call)
(new_expression constructor: (member_expression object: (_) @qualifier property: (property_identifier) @ref.call))
(decorator (identifier) @ref.use)

(import_statement) @import
(export_statement source: (string)) @import
((call_expression function: (identifier) @_function) @import (#eq? @_function "require"))
"#;

pub const JSX: &str = "
(jsx_opening_element name: (identifier) @ref.use)
(jsx_self_closing_element name: (identifier) @ref.use)
";

const OWN: &str = "
(field_definition property: [(property_identifier) (private_property_identifier)] @name) @symbol.field
(class_heritage (identifier) @ref.extends)
(class_heritage (member_expression object: (_) @qualifier property: (property_identifier) @ref.extends))
";

pub fn imports(node: Node<'_>, source: &[u8], imports: &mut Vec<Import>) {
    let line = line(node);
    let mut push = |module: &str, name: Option<&str>, alias: Option<&str>| {
        imports.push(Import {
            module: module.to_owned(),
            name: name.map(str::to_owned),
            alias: alias.map(str::to_owned),
            line,
        });
    };
    if node.kind() == "call_expression" {
        let argument = node.child_by_field_name("arguments").map(children);
        if let Some([module]) = argument.as_deref()
            && module.kind() == "string"
        {
            push(unquoted(*module, source), None, required_as(node, source));
        }
        return;
    }
    let Some(module) = node.child_by_field_name("source") else {
        return;
    };
    let module = unquoted(module, source);
    let mut found = false;
    for clause in children(node) {
        let of_clause = match clause.kind() {
            "import_clause" => children(clause),
            "export_clause" | "namespace_export" => vec![clause],
            _ => continue,
        };
        for part in of_clause {
            match part.kind() {
                "identifier" => push(module, Some("default"), Some(text(part, source))),
                "namespace_import" | "namespace_export" => {
                    let alias = children(part).first().map(|alias| text(*alias, source));
                    push(module, Some("*"), alias);
                }
                "named_imports" | "export_clause" => {
                    for specifier in children(part) {
                        let name = specifier.child_by_field_name("name");
                        let alias = specifier.child_by_field_name("alias");
                        if let Some(name) = name {
                            let alias = alias.map(|alias| text(alias, source));
                            push(module, Some(text(name, source)), alias);
                        }
                    }
                }
                _ => continue,
            }
            found = true;
        }
    }
    if !found {
        let all = node.kind() == "export_statement";
        push(module, all.then_some("*"), None);
    }
}

/// The name of `const name = require(…)`.
fn required_as<'a>(call: Node<'_>, source: &'a [u8]) -> Option<&'a str> {
    let declarator = call.parent()?;
    let name = declarator.child_by_field_name("name")?;
    (declarator.kind() == "variable_declarator" && name.kind() == "identifier")
        .then(|| text(name, source))
}

pub fn kind(declaration: &Declaration<'_>) -> SymbolKind {
    match declaration.kind {
        SymbolKind::Method if declaration.name == "constructor" => SymbolKind::Constructor,
        SymbolKind::Variable => {
            let parent = declaration.node.parent();
            let keyword = parent.and_then(|parent| parent.child(0));
            match keyword.map(|keyword| keyword.kind()) {
                Some("const") => SymbolKind::Constant,
                _ => SymbolKind::Variable,
            }
        }
        kind => kind,
    }
}

/// Members are as visible as their class, unless they are private.
pub fn exported(declaration: &Declaration<'_>) -> bool {
    let member = matches!(
        declaration.kind,
        SymbolKind::Method
            | SymbolKind::Field
            | SymbolKind::Property
            | SymbolKind::Variant
            | SymbolKind::Constructor
    );
    if member {
        let text = declaration.text();
        return !declaration.name.starts_with('#')
            && !text.starts_with("private ")
            && !text.starts_with("protected ");
    }
    let mut node = declaration.node;
    for _ in 0..2 {
        match node.parent() {
            Some(parent) if parent.kind() == "export_statement" => return true,
            Some(parent) => node = parent,
            None => return false,
        }
    }
    let text = declaration.text();
    text.starts_with("module.exports") || text.starts_with("exports.")
}

pub fn documentation(node: Node<'_>, source: &[u8]) -> Option<String> {
    let wrappers = [
        "export_statement",
        "lexical_declaration",
        "variable_declaration",
        "expression_statement",
        "ambient_declaration",
    ];
    documentation::above(node, source, &wrappers, &["decorator"], |_| true)
}

//! What a file declares and mentions, in the shape in which it is stored. Lines are counted from 1, columns in bytes from 0.

use serde::Serialize;

/// Everything of one file, in the order of the text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outline {
    /// Declarations.
    pub symbols: Vec<Symbol>,
    /// Uses of names.
    pub references: Vec<Reference>,
    /// Names from elsewhere.
    pub imports: Vec<Import>,
}

/// What a symbol is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum SymbolKind {
    Function,
    Method,
    Class,
    Struct,
    Enum,
    Interface,
    Trait,
    Type,
    Constant,
    Variable,
    Field,
    Module,
    Macro,
    Constructor,
    Variant,
    Property,
}

impl SymbolKind {
    /// All kinds with their names in queries and in the database.
    pub const ALL: [(Self, &str); 16] = [
        (Self::Function, "function"),
        (Self::Method, "method"),
        (Self::Class, "class"),
        (Self::Struct, "struct"),
        (Self::Enum, "enum"),
        (Self::Interface, "interface"),
        (Self::Trait, "trait"),
        (Self::Type, "type"),
        (Self::Constant, "constant"),
        (Self::Variable, "variable"),
        (Self::Field, "field"),
        (Self::Module, "module"),
        (Self::Macro, "macro"),
        (Self::Constructor, "constructor"),
        (Self::Variant, "variant"),
        (Self::Property, "property"),
    ];

    /// Whether it is a type that has members.
    pub fn has_members(self) -> bool {
        matches!(
            self,
            Self::Class | Self::Struct | Self::Enum | Self::Interface | Self::Trait | Self::Type
        )
    }

    /// Whether it has a body of statements, in which variables are local.
    pub fn runs(self) -> bool {
        matches!(self, Self::Function | Self::Method | Self::Constructor)
    }
}

/// A declaration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Symbol {
    /// Its number in the file, from 0.
    pub ordinal: usize,
    /// The number of the symbol that it belongs to.
    pub parent: Option<usize>,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: SymbolKind,
    /// The declaration without its body, in one line.
    pub signature: String,
    /// The comment above it, or its docstring, without the marks of a comment.
    pub documentation: Option<String>,
    /// Whether other files can use it, as far as its own line says.
    pub exported: bool,
    /// The range of the whole declaration.
    pub start_line: usize,
    /// See [`Symbol::start_line`].
    pub start_column: usize,
    /// See [`Symbol::start_line`].
    pub end_line: usize,
    /// See [`Symbol::start_line`].
    pub end_column: usize,
    /// Where its name stands.
    pub name_line: usize,
    /// See [`Symbol::name_line`].
    pub name_column: usize,
}

/// How a name is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum ReferenceKind {
    Call,
    Type,
    Extends,
    Implements,
    Use,
}

impl ReferenceKind {
    /// All kinds with their names in queries and in the database.
    pub const ALL: [(Self, &str); 5] = [
        (Self::Call, "call"),
        (Self::Type, "type"),
        (Self::Extends, "extends"),
        (Self::Implements, "implements"),
        (Self::Use, "use"),
    ];
}

/// A use of a name. Of types and other uses only the first of each name within a symbol is kept; calls are all kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reference {
    /// The number of the symbol around it.
    pub symbol: Option<usize>,
    /// The name.
    pub name: String,
    /// What stands before the name: a path or an object. `()` for an expression that is neither.
    pub qualifier: Option<String>,
    /// How it is used.
    pub kind: ReferenceKind,
    /// Where it stands.
    pub line: usize,
    /// See [`Reference::line`].
    pub column: usize,
}

/// A name from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Import {
    /// The module, as it is written.
    pub module: String,
    /// The name in that module; none for the module itself, `*` for all of its names.
    pub name: Option<String>,
    /// The name that it has here, if it is another one.
    pub alias: Option<String>,
    /// Where it stands.
    pub line: usize,
}

//! Queries of the languages, compiled, and what their captures are for.

use std::{collections::HashMap, sync::OnceLock};

use tree_sitter::Query;

use crate::{
    language::Language,
    outline::{ReferenceKind, SymbolKind},
    parse::ParseError,
};

/// What a capture is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Symbol(SymbolKind),
    Reference(ReferenceKind),
    Name,
    Owner,
    Qualifier,
    Scope,
    Import,
    Other,
}

impl Role {
    fn of(capture: &str) -> Option<Self> {
        Some(match capture.split_once('.') {
            Some(("symbol", kind)) => {
                let mut kinds = SymbolKind::ALL.into_iter();
                Self::Symbol(kinds.find(|(_, name)| *name == kind)?.0)
            }
            Some(("ref", kind)) => {
                let mut kinds = ReferenceKind::ALL.into_iter();
                Self::Reference(kinds.find(|(_, name)| *name == kind)?.0)
            }
            Some(_) => return None,
            None => match capture {
                "name" => Self::Name,
                "owner" => Self::Owner,
                "qualifier" => Self::Qualifier,
                "scope" => Self::Scope,
                "import" => Self::Import,
                other if other.starts_with('_') => Self::Other,
                _ => return None,
            },
        })
    }
}

/// A grammar with its query, compiled once for each language.
pub struct Compiled {
    pub grammar: tree_sitter::Language,
    pub query: Query,
    pub roles: Vec<Role>,
}

impl Compiled {
    pub fn of(language: &Language) -> Result<&'static Self, ParseError> {
        static ALL: OnceLock<HashMap<&'static str, OnceLock<Option<Compiled>>>> = OnceLock::new();
        let all = ALL.get_or_init(|| {
            let keys = Language::all().iter().map(Self::key);
            keys.map(|key| (key, OnceLock::new())).collect()
        });
        let compiled = all[Self::key(language)].get_or_init(|| Self::new(language).ok());
        compiled.as_ref().ok_or(ParseError::Grammar)
    }

    fn key(language: &Language) -> &'static str {
        language.extensions[0]
    }

    pub fn new(language: &Language) -> Result<Self, String> {
        let grammar = (language.grammar)();
        let query = Query::new(&grammar, &language.query.concat());
        let query = query.map_err(|error| format!("{}: {error}", language.name))?;
        let roles = query.capture_names().iter().map(|name| {
            let role = Role::of(name);
            role.ok_or_else(|| format!("{}: @{name} is no capture", language.name))
        });
        Ok(Self {
            roles: roles.collect::<Result<_, _>>()?,
            grammar,
            query,
        })
    }
}

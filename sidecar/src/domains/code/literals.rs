//! Which literals a text must have so that a regular expression can match in it. An n-gram index finds the texts that have them.
//! The literals are necessary and not sufficient: each text that is found is searched by the expression itself.

use std::collections::BTreeSet;

use regex_syntax::hir::{Class, ClassUnicode, Hir, HirKind, Repetition};

/// Shorter ones are not in the index, which has trigrams.
const MIN_BYTES: usize = 3;
const MAX_BYTES: usize = 64;
/// A clause with more alternatives costs the index more than it saves.
const MAX_ALTERNATIVES: usize = 32;
const MAX_CLAUSES: usize = 6;
/// A class of more characters, such as `\w`, says nothing.
const MAX_CLASS: usize = 8;

/// A text must have one of these.
type Clause = BTreeSet<String>;

/// What is known of the strings that an expression matches.
#[derive(Debug, Default)]
struct Known {
    /// All of them, if they are few.
    exact: Option<Clause>,
    /// Each has one of each of these.
    clauses: Vec<Clause>,
}

/// All must hold: of each clause a text has one literal. Empty: any text may match. Letters of ASCII are small.
pub(super) fn required(hir: &Hir) -> Vec<Vec<String>> {
    let mut clauses = known(hir).into_clauses();
    // Long literals are rare, and few alternatives narrow more.
    clauses.sort_by_key(|clause| (std::cmp::Reverse(shortest(clause)), clause.len()));
    clauses.dedup();
    clauses.truncate(MAX_CLAUSES);
    clauses
        .into_iter()
        .map(|clause| clause.into_iter().collect())
        .collect()
}

impl Known {
    fn exactly(strings: impl IntoIterator<Item = String>) -> Self {
        Self {
            exact: Some(strings.into_iter().collect()),
            clauses: Vec::new(),
        }
    }

    fn into_clauses(mut self) -> Vec<Clause> {
        self.clauses.extend(self.exact.filter(is_useful));
        self.clauses
    }
}

fn known(hir: &Hir) -> Known {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Known::exactly([String::new()]),
        HirKind::Literal(literal) => match std::str::from_utf8(&literal.0) {
            Ok(text) if text.len() <= MAX_BYTES => Known::exactly([text.to_ascii_lowercase()]),
            Ok(text) => {
                let end = text.floor_char_boundary(MAX_BYTES);
                Known {
                    exact: None,
                    clauses: vec![Clause::from([text[..end].to_ascii_lowercase()])],
                }
            }
            Err(_) => Known::default(),
        },
        HirKind::Class(Class::Unicode(class)) => {
            characters(class).map_or_else(Known::default, Known::exactly)
        }
        HirKind::Class(Class::Bytes(_)) => Known::default(),
        HirKind::Repetition(repetition) => repeated(repetition),
        HirKind::Capture(capture) => known(&capture.sub),
        HirKind::Concat(parts) => concatenated(parts),
        HirKind::Alternation(parts) => alternated(parts),
    }
}

fn characters(class: &ClassUnicode) -> Option<Clause> {
    let mut all = Clause::new();
    let mut count = 0;
    for range in class.ranges() {
        count += range.len();
        if count > MAX_CLASS {
            return None;
        }
        all.extend((range.start()..=range.end()).map(|it| it.to_ascii_lowercase().to_string()));
    }
    (!all.is_empty()).then_some(all)
}

fn repeated(repetition: &Repetition) -> Known {
    let mut once = known(&repetition.sub);
    match (repetition.min, repetition.max, &mut once.exact) {
        (0, Some(1), Some(exact)) => {
            exact.insert(String::new());
            once
        }
        (0, ..) => Known::default(),
        (1, Some(1), _) => once,
        _ => Known {
            exact: None,
            clauses: once.into_clauses(),
        },
    }
}

fn concatenated(parts: &[Hir]) -> Known {
    let mut clauses = Vec::new();
    let mut is_exact = true;
    let mut open = Clause::from([String::new()]);
    for part in parts {
        let part = known(part);
        let joined = part.exact.as_ref().and_then(|exact| joined(&open, exact));
        match joined {
            Some(joined) => open = joined,
            None => {
                is_exact = false;
                clauses.push(std::mem::replace(
                    &mut open,
                    part.exact.unwrap_or_else(|| Clause::from([String::new()])),
                ));
            }
        }
        clauses.extend(part.clauses);
    }
    if is_exact && clauses.is_empty() {
        return Known {
            exact: Some(open),
            clauses,
        };
    }
    clauses.push(open);
    clauses.retain(is_useful);
    Known {
        exact: None,
        clauses,
    }
}

/// Each of the first before each of the second; `None` when they are too many or too long.
fn joined(first: &Clause, second: &Clause) -> Option<Clause> {
    if first.len() * second.len() > MAX_ALTERNATIVES {
        return None;
    }
    let all: Clause = first
        .iter()
        .flat_map(|one| second.iter().map(move |other| format!("{one}{other}")))
        .collect();
    all.iter().all(|it| it.len() <= MAX_BYTES).then_some(all)
}

/// One branch matches, so a text has the best clause of one of them.
fn alternated(parts: &[Hir]) -> Known {
    let parts: Vec<Known> = parts.iter().map(known).collect();
    let exact: Option<Vec<&Clause>> = parts.iter().map(|part| part.exact.as_ref()).collect();
    if let Some(exact) = exact {
        let all: Clause = exact.into_iter().flatten().cloned().collect();
        if all.len() <= MAX_ALTERNATIVES {
            return Known {
                exact: Some(all),
                clauses: Vec::new(),
            };
        }
    }
    let mut any = Clause::new();
    for part in parts {
        let best = part
            .into_clauses()
            .into_iter()
            .max_by_key(|clause| (shortest(clause), std::cmp::Reverse(clause.len())));
        let Some(best) = best else {
            return Known::default();
        };
        any.extend(best);
    }
    match any.len() <= MAX_ALTERNATIVES {
        true => Known {
            exact: None,
            clauses: vec![any],
        },
        false => Known::default(),
    }
}

fn shortest(clause: &Clause) -> usize {
    clause.iter().map(String::len).min().unwrap_or(0)
}

fn is_useful(clause: &Clause) -> bool {
    shortest(clause) >= MIN_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pattern: &str) -> Vec<Vec<String>> {
        required(&regex_syntax::parse(pattern).unwrap())
    }

    #[test]
    fn literals_are_what_every_match_has() {
        for (pattern, wanted) in [
            ("parse_config", vec![vec!["parse_config"]]),
            (r"fn\s+parse_[a-z]+\(", vec![vec!["parse_"]]),
            ("Foo|Bar", vec![vec!["bar", "foo"]]),
            ("colou?r", vec![vec!["color", "colour"]]),
            (
                "(get|set)User.*Name",
                vec![vec!["getuser", "setuser"], vec!["name"]],
            ),
            ("(abc)+d*efg", vec![vec!["abc"], vec!["efg"]]),
            (r"^\s*impl Iterator for\b", vec![vec!["impl iterator for"]]),
            (r"\) -> &", vec![vec![") -> &"]]),
            ("x[12]y|.*longer", vec![vec!["longer", "x1y", "x2y"]]),
            ("größe", vec![vec!["größe"]]),
        ] {
            assert_eq!(of(pattern), wanted, "{pattern}");
        }
    }

    #[test]
    fn what_may_match_without_a_literal_requires_none() {
        for pattern in [
            "",
            r"\d+",
            "ab",
            "(foo)?",
            "foo|.",
            "(foo)*",
            r"[a-z]{3,}",
            "a|bcd",
            r"\w+\(",
        ] {
            assert_eq!(of(pattern), Vec::<Vec<String>>::new(), "{pattern}");
        }
    }

    #[test]
    fn letters_of_any_case_are_one_literal_and_others_keep_theirs() {
        assert_eq!(of("(?i)error"), vec![vec!["error"]]);
        // A long s and a Kelvin sign match too.
        assert_eq!(of("(?i)usk")[0].len(), 4);
        assert!(of("(?i)usk")[0].contains(&"u\u{17f}\u{212a}".to_owned()));
    }

    #[test]
    fn their_number_and_length_are_bounded() {
        assert_eq!(of(&"x".repeat(500)), vec![vec!["x".repeat(MAX_BYTES)]]);
        let digits = of("[0-7][0-7][0-7]abc");
        assert!(digits.iter().all(|clause| clause.len() <= MAX_ALTERNATIVES));
        assert_eq!(digits[0].len(), 8);
        let many: Vec<String> = (0..100).map(|n| format!("word{n}")).collect();
        assert!(of(&many.join("|")).len() <= 1);
        let parts: Vec<String> = (0..20).map(|n| format!("part{n:02}")).collect();
        assert_eq!(of(&parts.join(".+")).len(), MAX_CLAUSES);
    }
}

//! A caller's regular expression, within bounds: it is parsed, and compiled to a program of bounded size, whose time is linear in the
//! text. It is matched line by line. A long line is searched up to a limit, and between lines a search stops when it is told to.

use std::sync::atomic::{AtomicBool, Ordering};

use regex_automata::{
    Input,
    meta::{Cache, Config, Regex},
};
use regex_syntax::{
    ParserBuilder,
    hir::{Hir, HirKind, Look},
};
use serde::Serialize;

use super::literals;

pub(super) const MAX_PATTERN_CHARS: usize = 1_000;
const MAX_NESTING: u32 = 50;
const MAX_PROGRAM_BYTES: usize = 512 << 10;
const MAX_CACHE_BYTES: usize = 2 << 20;
/// Minified files have lines of megabytes; of such a line the rest is not searched.
const MAX_SEARCHED_BYTES: usize = 4 << 10;
/// What is shown of a line.
const MAX_LINE_BYTES: usize = 500;

/// How it is matched.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Options {
    pub match_case: bool,
    pub whole_word: bool,
}

/// An expression that was parsed.
#[derive(Debug)]
pub(super) struct Expression {
    hir: Hir,
    whole_word: bool,
}

/// A compiled one.
#[derive(Debug, Clone)]
pub(super) struct Pattern(Regex);

/// A line that it matches, as `search_code()` has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Line {
    /// From 1.
    pub line: usize,
    /// In bytes, from 0.
    pub column: usize,
    pub content: String,
    pub before: Vec<String>,
    pub after: Vec<String>,
}

/// Which lines are wanted.
pub(super) struct Wanted<'a> {
    /// Lines up to this one were searched before.
    pub after: usize,
    /// Lines around each.
    pub context: usize,
    pub max: usize,
    /// Ends the search.
    pub stop: &'a AtomicBool,
}

/// Lines of one text.
#[derive(Debug, PartialEq)]
pub(super) struct Lines {
    pub found: Vec<Line>,
    /// The last line that was searched, if it is not the end.
    pub reached: Option<usize>,
}

impl Expression {
    /// The error is for the caller.
    pub(super) fn parse(pattern: &str, options: Options) -> Result<Self, String> {
        if pattern.chars().count() > MAX_PATTERN_CHARS {
            return Err(format!("at most {MAX_PATTERN_CHARS} characters"));
        }
        Self::of(pattern, options)
    }

    fn of(pattern: &str, options: Options) -> Result<Self, String> {
        let hir = ParserBuilder::new()
            .nest_limit(MAX_NESTING)
            .case_insensitive(!options.match_case)
            .build()
            .parse(pattern)
            .map_err(|error| explain(&error))?;
        match has_newline(&hir) {
            true => Err("it is matched within lines, and has a line break".to_owned()),
            false => Ok(Self {
                hir,
                whole_word: options.whole_word,
            }),
        }
    }

    /// One that matches a text as it is.
    pub(super) fn literal(text: &str, options: Options) -> Result<Self, String> {
        if text.chars().count() > MAX_PATTERN_CHARS {
            return Err(format!("at most {MAX_PATTERN_CHARS} characters"));
        }
        let escaped = regex_syntax::escape(text);
        Self::of(&escaped, options)
    }

    /// See [`literals::required`].
    pub(super) fn literals(&self) -> Vec<Vec<String>> {
        literals::required(&self.hir)
    }

    /// It takes milliseconds at most. The error is for the caller.
    pub(super) fn compile(self) -> Result<Pattern, String> {
        let hir = match self.whole_word {
            true => Hir::concat(vec![
                Hir::look(Look::WordStartHalfUnicode),
                self.hir,
                Hir::look(Look::WordEndHalfUnicode),
            ]),
            false => self.hir,
        };
        let config = Config::new()
            .nfa_size_limit(Some(MAX_PROGRAM_BYTES))
            .onepass(false)
            .dfa(false)
            .hybrid_cache_capacity(MAX_CACHE_BYTES);
        Regex::builder()
            .configure(config)
            .build_from_hir(&hir)
            .map(Pattern)
            .map_err(|_| "it is too large: repeat less, or use smaller classes".to_owned())
    }
}

impl Pattern {
    /// What the lines of one text need.
    pub(super) fn cache(&self) -> Cache {
        self.0.create_cache()
    }

    /// The first lines that match, with lines around them.
    pub(super) fn lines(&self, cache: &mut Cache, text: &str, wanted: &Wanted<'_>) -> Lines {
        let context = wanted.context;
        let mut found = Vec::new();
        let mut starts = Vec::new();
        for (start, line) in lines_of(text) {
            if found.len() == wanted.max || wanted.stop.load(Ordering::Relaxed) {
                return Lines {
                    found,
                    reached: Some(starts.len()),
                };
            }
            starts.push(start);
            let number = starts.len();
            let searched = &line[..line.floor_char_boundary(MAX_SEARCHED_BYTES)];
            let place = (number > wanted.after)
                .then(|| self.0.search_with(cache, &Input::new(searched)))
                .flatten();
            let Some(place) = place else {
                continue;
            };
            let before = starts[number.saturating_sub(context + 1)..number - 1].iter();
            found.push(Line {
                line: number,
                column: place.start(),
                content: cut(line, place.start()),
                before: before.map(|&start| cut(line_at(text, start), 0)).collect(),
                after: lines_of(&text[start..])
                    .skip(1)
                    .take(context)
                    .map(|(_, line)| cut(line, 0))
                    .collect(),
            });
        }
        Lines {
            found,
            reached: None,
        }
    }
}

/// Without the expression, which the caller knows.
fn explain(error: &regex_syntax::Error) -> String {
    match error {
        regex_syntax::Error::Parse(error) => format!(
            "{} at character {}",
            error.kind(),
            error.span().start.column
        ),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        _ => "it is not one".to_owned(),
    }
}

fn has_newline(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Literal(literal) => literal.0.contains(&b'\n'),
        HirKind::Repetition(repetition) => has_newline(&repetition.sub),
        HirKind::Capture(capture) => has_newline(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().any(has_newline),
        HirKind::Empty | HirKind::Class(_) | HirKind::Look(_) => false,
    }
}

/// Each line with its place, without its end.
fn lines_of(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut start = 0;
    text.split_inclusive('\n').map(move |line| {
        let at = start;
        start += line.len();
        (at, without_end(line))
    })
}

fn line_at(text: &str, start: usize) -> &str {
    lines_of(&text[start..]).next().map_or("", |(_, line)| line)
}

fn without_end(line: &str) -> &str {
    let line = line.strip_suffix('\n').unwrap_or(line);
    line.strip_suffix('\r').unwrap_or(line)
}

fn cut(line: &str, column: usize) -> String {
    if line.len() <= MAX_LINE_BYTES {
        return line.to_owned();
    }
    let start = line.floor_char_boundary(column.saturating_sub(MAX_LINE_BYTES / 4));
    line[start..line.floor_char_boundary(start + MAX_LINE_BYTES)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "use a;\r\nfn parse_one() {\n    Parse();\n}\nfn parse_two() {}";

    fn compiled(pattern: &str, options: Options) -> Result<Pattern, String> {
        Expression::parse(pattern, options)?.compile()
    }

    fn search(pattern: &str, options: Options, text: &str, wanted: &Wanted<'_>) -> Lines {
        let pattern = compiled(pattern, options).unwrap();
        pattern.lines(&mut pattern.cache(), text, wanted)
    }

    static GOES_ON: AtomicBool = AtomicBool::new(false);

    fn lines(pattern: &str, options: Options, context: usize, max: usize) -> Vec<Line> {
        let (after, stop) = (0, &GOES_ON);
        let wanted = Wanted {
            after,
            context,
            max,
            stop,
        };
        search(pattern, options, TEXT, &wanted).found
    }

    fn numbers(pattern: &str, match_case: bool, whole_word: bool) -> Vec<(usize, usize)> {
        let options = Options {
            match_case,
            whole_word,
        };
        let found = lines(pattern, options, 0, 10);
        found.iter().map(|line| (line.line, line.column)).collect()
    }

    #[test]
    fn lines_that_match_have_number_column_and_context() {
        assert_eq!(
            numbers(r"fn\s+parse_[a-z]+\(", true, false),
            [(2, 0), (5, 0)]
        );
        assert_eq!(numbers("parse", false, false), [(2, 3), (3, 4), (5, 3)]);
        assert_eq!(numbers("parse", true, true), []);
        assert_eq!(numbers("parse", false, true), [(3, 4)]);
        assert_eq!(numbers("^}$|;$", true, false), [(1, 5), (3, 11), (4, 0)]);
        let found = &lines(
            "Parse",
            Options {
                match_case: true,
                whole_word: false,
            },
            1,
            10,
        )[0];
        assert_eq!(
            (&found.before[..], &found.after[..]),
            (&["fn parse_one() {".to_owned()][..], &["}".to_owned()][..])
        );
        assert_eq!(
            lines("use", Options::default(), 2, 10)[0].before,
            Vec::<String>::new()
        );
        assert_eq!(lines("e", Options::default(), 0, 2).len(), 2);
    }

    #[test]
    fn the_option_for_whole_words_cannot_be_escaped_from() {
        assert_eq!(numbers("pars|parse(?x) # a comment", false, true), [(3, 4)]);
        assert!(
            compiled(
                "a)|(b",
                Options {
                    match_case: true,
                    whole_word: true
                }
            )
            .is_err()
        );
    }

    #[test]
    fn expressions_are_bounded() {
        let error = |pattern: &str| compiled(pattern, Options::default()).err();
        assert_eq!(error("(").unwrap(), "unclosed group at character 1");
        assert!(
            error(&"(".repeat(MAX_PATTERN_CHARS + 1))
                .unwrap()
                .starts_with("at most")
        );
        assert!(error(&format!("{}x{}", "(".repeat(60), ")".repeat(60))).is_some());
        assert!(error(r"\w{200}").unwrap().starts_with("it is too large"));
        assert!(
            error("((a{100}){100}){100}")
                .unwrap()
                .starts_with("it is too large")
        );
        assert!(error(r"a\nb").is_some() && error(r"a\s*b").is_none());
        assert!(error(r"(?-u)\xff").is_some());
    }

    #[test]
    fn long_lines_are_searched_up_to_a_limit_and_cut() {
        let find = |text: &str| {
            let wanted = Wanted {
                after: 0,
                context: 0,
                max: 9,
                stop: &GOES_ON,
            };
            search("needle", Options::default(), text, &wanted).found
        };
        let found = find(&format!(
            "{}needle{}",
            "é".repeat(1_000),
            "x".repeat(1_000_000)
        ));
        assert_eq!(found[0].column, 2_000);
        assert!(found[0].content.contains("needle") && found[0].content.len() <= MAX_LINE_BYTES);
        assert!(find(&format!("{}needle", "x".repeat(MAX_SEARCHED_BYTES))).is_empty());
    }

    #[test]
    fn a_search_ends_early_and_goes_on_there() {
        let part = |after: usize, max: usize, stop: bool| {
            let stop = &AtomicBool::new(stop);
            let wanted = Wanted {
                after,
                context: 0,
                max,
                stop,
            };
            let lines = search("a", Options::default(), "a\nb\na\n", &wanted);
            let numbers: Vec<_> = lines.found.iter().map(|line| line.line).collect();
            (numbers, lines.reached)
        };
        assert_eq!(part(0, 9, false), (vec![1, 3], None));
        assert_eq!(part(0, 1, false), (vec![1], Some(1)));
        assert_eq!(part(1, 9, false), (vec![3], None));
        assert_eq!(part(0, 9, true), (vec![], Some(0)));
    }
}

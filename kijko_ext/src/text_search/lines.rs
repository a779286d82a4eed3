//! The lines of a text that have a literal.

use super::fold::fold;

/// A line that is longer is cut around what was found: a minified file has one line.
const MAX_LINE_BYTES: usize = 500;

pub struct Search<'a> {
    pub literal: &'a str,
    pub match_case: bool,
    pub whole_word: bool,
    pub context: usize,
    pub max_lines: usize,
}

#[derive(Debug, PartialEq)]
pub struct Found {
    /// From 1.
    pub line: i32,
    /// In bytes, from 0.
    pub column: i32,
    pub content: String,
    pub before: Vec<String>,
    pub after: Vec<String>,
}

impl Search<'_> {
    pub fn run(&self, text: &str) -> Vec<Found> {
        if self.literal.is_empty() || self.max_lines == 0 {
            return Vec::new();
        }
        let places = if self.match_case {
            self.places(text, self.literal)
        } else {
            self.places(&fold(text), &fold(self.literal))
        };
        self.describe(text, &places)
    }

    /// The first place in each line.
    fn places(&self, text: &str, literal: &str) -> Vec<usize> {
        let mut places = Vec::new();
        let mut from = 0;
        while places.len() < self.max_lines {
            let Some(found) = text[from..].find(literal) else {
                break;
            };
            let at = from + found;
            if self.whole_word && !is_word(text, at, at + literal.len()) {
                from = at + text[at..].chars().next().map_or(1, char::len_utf8);
                continue;
            }
            places.push(at);
            match text[at..].find('\n') {
                Some(end) => from = at + end + 1,
                None => break,
            }
        }
        places
    }

    fn describe(&self, text: &str, places: &[usize]) -> Vec<Found> {
        let mut line = 1;
        let mut counted = 0;
        places
            .iter()
            .map(|&at| {
                line += text[counted..at].matches('\n').count();
                counted = at;
                let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
                let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
                Found {
                    line: i32::try_from(line).unwrap_or(i32::MAX),
                    column: i32::try_from(at - start).unwrap_or(i32::MAX),
                    content: cut(without_return(&text[start..end]), at - start),
                    before: self.lines_before(&text[..start]),
                    after: text
                        .get(end + 1..)
                        .map_or_else(Vec::new, |rest| self.lines_after(rest)),
                }
            })
            .collect()
    }

    fn lines_before(&self, text: &str) -> Vec<String> {
        let Some(text) = text.strip_suffix('\n') else {
            return Vec::new();
        };
        let mut lines: Vec<String> = text
            .rsplit('\n')
            .take(self.context)
            .map(|line| cut(without_return(line), 0))
            .collect();
        lines.reverse();
        lines
    }

    fn lines_after(&self, text: &str) -> Vec<String> {
        text.split_terminator('\n')
            .take(self.context)
            .map(|line| cut(without_return(line), 0))
            .collect()
    }
}

fn without_return(line: &str) -> &str {
    line.strip_suffix('\r').unwrap_or(line)
}

fn is_word(text: &str, start: usize, end: usize) -> bool {
    let of_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    !text[..start].chars().next_back().is_some_and(of_word)
        && !text[end..].chars().next().is_some_and(of_word)
}

fn cut(line: &str, column: usize) -> String {
    if line.len() <= MAX_LINE_BYTES {
        return line.to_owned();
    }
    let start = line.floor_char_boundary(column.saturating_sub(MAX_LINE_BYTES / 4));
    let end = line.floor_char_boundary((start + MAX_LINE_BYTES).min(line.len()));
    line[start..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "fn parse() {\r\n    let Größe = parser();\n    parse()\n}\n";

    fn search(literal: &str) -> Search<'_> {
        Search {
            literal,
            match_case: false,
            whole_word: false,
            context: 1,
            max_lines: 10,
        }
    }

    fn lines(found: &[Found]) -> Vec<(i32, i32)> {
        found
            .iter()
            .map(|found| (found.line, found.column))
            .collect()
    }

    #[test]
    fn finds_the_first_place_of_each_line() {
        assert_eq!(lines(&search("PARSE").run(TEXT)), [(1, 3), (2, 18), (3, 4)]);
        assert_eq!(lines(&search("r").run(TEXT)), [(1, 5), (2, 9), (3, 6)]);
        assert_eq!(lines(&search("GRÖSSE").run(TEXT)), []);
        assert_eq!(lines(&search("GRÖß").run(TEXT)), [(2, 8)]);
    }

    #[test]
    fn keeps_case_and_whole_words_when_asked() {
        let exact = Search {
            match_case: true,
            ..search("PARSE")
        };
        assert_eq!(exact.run(TEXT), []);
        let word = Search {
            whole_word: true,
            ..search("parse")
        };
        assert_eq!(lines(&word.run(TEXT)), [(1, 3), (3, 4)]);
        let marks = Search {
            whole_word: true,
            ..search("() {")
        };
        assert_eq!(lines(&marks.run(TEXT)), []);
    }

    #[test]
    fn shows_the_lines_around() {
        let found = search("parser").run(TEXT);
        assert_eq!(found[0].content, "    let Größe = parser();");
        assert_eq!(found[0].before, ["fn parse() {"]);
        assert_eq!(found[0].after, ["    parse()"]);
        let first = search("fn").run(TEXT);
        assert!(first[0].before.is_empty());
        let last = search("}").run(TEXT);
        assert!(last[0].after.is_empty());
    }

    #[test]
    fn is_bounded() {
        assert_eq!(
            Search {
                max_lines: 2,
                ..search("parse")
            }
            .run(TEXT)
            .len(),
            2
        );
        assert_eq!(search("").run(TEXT), []);
        let long = "é".repeat(100_000) + "needle" + &"é".repeat(100_000);
        let found = search("needle").run(&long);
        assert!(found[0].content.len() <= MAX_LINE_BYTES && found[0].content.contains("needle"));
        assert_eq!(found[0].column, 200_000);
        // Overlapping candidates of a whole word, one after the other.
        let word = Search {
            whole_word: true,
            ..search("aa")
        };
        assert_eq!(word.run(&"a".repeat(10_000)), []);
    }
}

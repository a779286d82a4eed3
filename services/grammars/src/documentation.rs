//! Comments that document a declaration.

use tree_sitter::Node;

use crate::language::text;

/// Characters of a documentation that are kept.
pub const MAX_DOCUMENTATION: usize = 2_000;
/// A comment above a declaration may have so many parts.
const MAX_COMMENTS: usize = 200;

/// The comments directly above a declaration, or above what it stands in alone, such as `export`. `wrappers` are the kinds of such
/// nodes; `between` are kinds that may stand between the comment and the declaration.
pub fn above(
    node: Node<'_>,
    source: &[u8],
    wrappers: &[&str],
    between: &[&str],
    documents: fn(&str) -> bool,
) -> Option<String> {
    let mut node = node;
    while let Some(parent) = node.parent() {
        if !wrappers.contains(&parent.kind()) {
            break;
        }
        node = parent;
    }
    let mut comments = Vec::new();
    let mut below = node.start_position().row;
    let mut previous = node.prev_sibling();
    while let Some(comment) = previous {
        let is_comment = comment.kind().contains("comment");
        if !is_comment && !between.contains(&comment.kind()) {
            break;
        }
        // The end of a line comment of Rust's grammar is the start of the next line.
        let end = comment.end_position();
        let last_row = if end.column == 0 && end.row > comment.start_position().row {
            end.row - 1
        } else {
            end.row
        };
        if last_row + 1 < below || comments.len() == MAX_COMMENTS {
            break;
        }
        below = comment.start_position().row;
        if is_comment {
            let comment = text(comment, source);
            if !documents(comment) {
                break;
            }
            comments.push(comment);
        }
        previous = previous.and_then(|comment| comment.prev_sibling());
    }
    comments.reverse();
    cleaned(comments.into_iter())
}

/// Without the marks of comments. Empty documentation is none.
pub fn cleaned<'a>(comments: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut lines = Vec::new();
    for comment in comments {
        let comment = comment
            .trim()
            .trim_start_matches("/**")
            .trim_start_matches("/*")
            .trim_end_matches("*/");
        for line in comment.lines() {
            let line = line.trim();
            let line = ["///", "//!", "//", "*", "#"]
                .iter()
                .find_map(|mark| line.strip_prefix(mark))
                .unwrap_or(line);
            lines.push(line.trim());
        }
    }
    limited(&lines.join("\n"))
}

/// Trimmed and bounded.
pub fn limited(text: &str) -> Option<String> {
    let text: String = text.trim().chars().take(MAX_DOCUMENTATION).collect();
    (!text.is_empty()).then_some(text)
}

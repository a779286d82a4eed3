//! Search in text by literals: the keys of an n-gram index (grams.rs) and the lines that have a literal (lines.rs). Both fold
//! case by fold.rs, so what the index finds is what the lines are searched for. Literals only: the time is linear in the text.

use pgrx::Uuid;
use pgrx::prelude::*;

mod fold;
mod grams;
mod lines;

/// Keys of a text in an index of many organizations: its distinct byte trigrams, case folded and mixed with the seed. Sorted.
#[pg_extern(immutable, strict, parallel_safe)]
fn text_grams(text: &str, seed: Uuid) -> Vec<i32> {
    grams::of_text(text, seed.as_bytes())
}

/// Keys of an identifier: those of its text, and one for the beginning of each of its words. Sorted.
#[pg_extern(immutable, strict, parallel_safe)]
fn name_grams(name: &str, seed: Uuid) -> Vec<i32> {
    grams::of_name(name, seed.as_bytes())
}

/// The first lines of a text that have a literal, with lines around them.
#[pg_extern(immutable, strict, parallel_safe)]
#[allow(clippy::type_complexity)]
fn find_lines(
    text: &str,
    literal: &str,
    match_case: bool,
    whole_word: bool,
    context: i32,
    max_lines: i32,
) -> TableIterator<
    'static,
    (
        name!(line, i32),
        name!(column, i32),
        name!(content, String),
        name!(before, Vec<String>),
        name!(after, Vec<String>),
    ),
> {
    let search = lines::Search {
        literal,
        match_case,
        whole_word,
        context: usize::try_from(context).unwrap_or(0),
        max_lines: usize::try_from(max_lines).unwrap_or(0),
    };
    TableIterator::new(search.run(text).into_iter().map(|found| {
        (
            found.line,
            found.column,
            found.content,
            found.before,
            found.after,
        )
    }))
}

//! Recall of definitions: how many of those that were labelled by hand are found, here and by universal-ctags, and how fast.
//!
//! `cargo run --release --package kijko-grammars --example recall`; ctags is Debian's package `universal-ctags`.

use std::{
    collections::HashSet,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use kijko_grammars::{Language, Limits, Parser};

/// What both are compared by: the name of a definition and its line.
type Definitions = HashSet<(String, usize)>;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    let mut samples: Vec<PathBuf> = fs::read_dir(&folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    samples.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension != "labels")
    });
    samples.sort();
    println!(
        "{:<12} {:>7} {:>7} {:>7}",
        "language", "labels", "ours", "ctags"
    );
    let mut lower = false;
    for path in samples {
        let labels = labels(&path)?;
        let share = |found: &Definitions| labels.intersection(found).count();
        let name = path.to_string_lossy();
        let language = Language::of_path(&name).ok_or("a sample without a language")?;
        let ours = share(&ours(language, &path)?);
        let theirs = ctags(&path)?.as_ref().map(share);
        lower |= theirs.is_some_and(|theirs| ours < theirs);
        let theirs = theirs.map_or("no ctags".to_owned(), |theirs| theirs.to_string());
        println!(
            "{:<12} {:>7} {ours:>7} {theirs:>7}",
            language.name,
            labels.len()
        );
    }
    speed(&folder.join("sample.rs"))?;
    match lower {
        true => Err("ctags finds more in one of them".into()),
        false => Ok(()),
    }
}

fn labels(sample: &Path) -> Result<Definitions, Box<dyn Error>> {
    let labels = fs::read_to_string(format!("{}.labels", sample.display()))?;
    let labels = labels.lines().map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let [_kind, name, line, ..] = words[..] else {
            return Err("a label is a kind, a name and a line".into());
        };
        Ok((name.to_owned(), line.parse()?))
    });
    labels.collect()
}

fn ours(language: &Language, sample: &Path) -> Result<Definitions, Box<dyn Error>> {
    let outline = Parser::default().parse(language, &fs::read(sample)?, Limits::default())?;
    let symbols = outline.symbols.into_iter();
    Ok(symbols
        .map(|symbol| (symbol.name, symbol.name_line))
        .collect())
}

/// None without ctags.
fn ctags(sample: &Path) -> Result<Option<Definitions>, Box<dyn Error>> {
    let run = Command::new("ctags")
        .args(["-f", "-", "--fields=+n", "--excmd=number", "--sort=no"])
        .arg(sample)
        .output();
    let Ok(run) = run else {
        return Ok(None);
    };
    let text = String::from_utf8(run.stdout)?;
    let lines = text.lines().filter_map(|line| {
        let mut columns = line.split('\t');
        let name = columns.next()?.to_owned();
        let number = columns.nth(1)?.trim_end_matches(";\"").parse().ok()?;
        Some((name, number))
    });
    Ok(Some(lines.collect()))
}

fn speed(sample: &Path) -> Result<(), Box<dyn Error>> {
    let source = fs::read(sample)?.repeat(10);
    let language = Language::of_path("a.rs").ok_or("no Rust")?;
    let mut parser = Parser::default();
    let start = Instant::now();
    let rounds = 10;
    for _ in 0..rounds {
        parser.parse(language, &source, Limits::default())?;
    }
    let took = start.elapsed() / rounds;
    let speed = source.len() as f64 / 1e6 / took.as_secs_f64();
    println!(
        "{} kB of Rust in {took:.1?}: {speed:.1} MB/s",
        source.len() / 1_000
    );
    Ok(())
}

//! Limits, hostile input, and the queries themselves.

use super::*;

fn parse(path: &str, source: &[u8], limits: Limits) -> Result<Outline, ParseError> {
    let language = Language::of_path(path).expect("a language");
    Parser::default().parse(language, source, limits)
}

#[test]
fn every_query_fits_its_grammar() {
    for language in Language::all() {
        if let Err(problem) = Compiled::new(language) {
            panic!("{problem}");
        }
    }
}

#[test]
fn nothing_comes_of_nothing_and_noise_does_no_harm() {
    let noise: Vec<u8> = (0..20_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    for language in Language::all() {
        let path = format!("a.{}", language.extensions[0]);
        assert_eq!(parse(&path, b"", Limits::default()), Ok(Outline::default()));
        assert!(parse(&path, &noise, Limits::default()).is_ok(), "{path}");
    }
}

#[test]
fn one_comment_of_many_declarations_is_not_copied_without_end() {
    let names: Vec<String> = (0..300).map(|n| format!("a{n}")).collect();
    let comment = "\u{1d54f}".repeat(2_000);
    let source = format!("/* {comment} */\nint {};\n", names.join(", "));
    let limits = Limits {
        time: Duration::from_secs(60),
        ..Limits::default()
    };
    let outline = parse("a.c", source.as_bytes(), limits).unwrap();
    assert_eq!(outline.symbols.len(), 300);
    assert!(outline.symbols[0].documentation.is_some());
    let bytes = |symbol: &Symbol| {
        let documentation = symbol.documentation.as_ref().map_or(0, String::len);
        symbol.signature.len() + documentation
    };
    let bytes: usize = outline.symbols.iter().map(bytes).sum();
    assert!(bytes <= limits.text_bytes, "{bytes}");
}

#[test]
fn deep_nesting_ends_within_the_time() {
    for (path, open) in [
        ("a.rs", "fn f() {"),
        ("a.js", "(["),
        ("a.py", "("),
        ("a.c", "int x = (("),
        ("a.java", "class A {"),
        ("a.ts", "<A>("),
    ] {
        let source = open.repeat(100_000);
        let start = Instant::now();
        let limits = Limits {
            time: Duration::from_millis(300),
            ..Limits::default()
        };
        let _ = parse(path, source.as_bytes(), limits);
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{path}: {:?}",
            start.elapsed()
        );
    }
}

#[test]
fn a_file_that_takes_too_long_does_not_spoil_the_next() {
    let mut parser = Parser::default();
    let language = Language::of_path("a.rs").expect("Rust");
    let source = "fn f() { g(); }\n".repeat(20_000);
    let none = Limits {
        time: Duration::ZERO,
        ..Limits::default()
    };
    assert_eq!(
        parser.parse(language, source.as_bytes(), none),
        Err(ParseError::TimedOut)
    );
    let outline = parser
        .parse(language, b"fn after() {}", Limits::default())
        .expect("an outline");
    assert_eq!(outline.symbols[0].name, "after");
    let few = Limits {
        symbols: 3,
        references: 2,
        ..Limits::default()
    };
    let outline = parser
        .parse(language, source.as_bytes(), few)
        .expect("an outline");
    assert_eq!((outline.symbols.len(), outline.references.len()), (3, 2));
}

#[test]
fn signatures_have_no_body() {
    let outline = parse(
        "a.rs",
        b"pub fn add(\n  a: u8,\n  b: u8,\n) -> u8 {\n  a + b\n}",
        Limits::default(),
    )
    .expect("an outline");
    assert_eq!(
        outline.symbols[0].signature,
        "pub fn add( a: u8, b: u8, ) -> u8"
    );
}

//! Definitions that were labelled by hand, in one file of each language: `<kind> <name> <line of the name> <parent>`.

use std::{fs, path::Path};

use kijko_grammars::{Language, Limits, Outline, Parser, ReferenceKind, Symbol, SymbolKind};

const SAMPLES: [&str; 7] = [
    "sample.rs",
    "sample.ts",
    "sample.js",
    "sample.py",
    "sample.go",
    "sample.java",
    "sample.c",
];

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/samples")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn outline(name: &str) -> Outline {
    let language = Language::of_path(name).expect("a language");
    let outline = Parser::default().parse(language, read(name).as_bytes(), Limits::default());
    outline.expect("an outline")
}

fn kind_name(kind: SymbolKind) -> &'static str {
    let mut all = SymbolKind::ALL.into_iter();
    all.find(|(other, _)| *other == kind).expect("a name").1
}

fn label(symbol: &Symbol, all: &[Symbol]) -> String {
    let (kind, name, line) = (kind_name(symbol.kind), &symbol.name, symbol.name_line);
    match symbol.parent {
        Some(parent) => format!("{kind} {name} {line} {}", all[parent].name),
        None => format!("{kind} {name} {line}"),
    }
}

#[test]
fn every_labelled_definition_is_found() {
    for sample in SAMPLES {
        let outline = outline(sample);
        let found: Vec<_> = outline
            .symbols
            .iter()
            .map(|symbol| label(symbol, &outline.symbols))
            .collect();
        let labels = read(&format!("{sample}.labels"));
        assert!(labels.lines().count() >= 20, "{sample}");
        let missing: Vec<_> = labels
            .lines()
            .filter(|label| !found.iter().any(|found| found == label))
            .collect();
        assert!(missing.is_empty(), "{sample}: {missing:#?} of {found:#?}");
    }
}

#[test]
fn local_variables_are_no_symbols() {
    for sample in SAMPLES {
        let outline = outline(sample);
        let local = outline.symbols.iter().find(|symbol| symbol.name == "local");
        assert!(local.is_none(), "{sample}: {local:?}");
    }
}

/// `<kind> <qualifier>.<name> in <symbol>`.
fn references(sample: &str) -> Vec<String> {
    let outline = outline(sample);
    let lines = outline.references.iter().map(|reference| {
        let mut kinds = ReferenceKind::ALL.into_iter();
        let kind = kinds
            .find(|(kind, _)| *kind == reference.kind)
            .expect("a name")
            .1;
        let qualifier = reference
            .qualifier
            .as_ref()
            .map_or(String::new(), |it| format!("{it}."));
        let symbol = reference
            .symbol
            .map_or("file", |symbol| &outline.symbols[symbol].name);
        format!("{kind} {qualifier}{} in {symbol}", reference.name)
    });
    lines.collect()
}

#[test]
fn uses_have_their_kind_their_qualifier_and_the_symbol_around_them() {
    for (sample, expected) in [
        (
            "sample.rs",
            &[
                "call self.entries.get in refresh",
                "call load in refresh",
                "call render in fmt",
                "call inner in render",
                "implements Show in file",
                "call HashMap.new in new",
                "call fmt.format in render",
            ][..],
        ),
        (
            "sample.ts",
            &[
                "call read in load",
                "call this.emit in load",
                "call path.join in load",
                "extends Emitter in MemoryStore",
                "implements Store in MemoryStore",
                "implements Closable in MemoryStore",
                "extends Base in Store",
                "call parse in main",
                "type Config in constructor",
                "call main in onOpen",
            ],
        ),
        (
            "sample.js",
            &[
                "call notify in push",
                "call http.request in notify",
                "extends EventTarget in Queue",
                "call Queue in create",
                "call add in open",
                "call other in handler",
            ],
        ),
        (
            "sample.py",
            &[
                "call self.step in run",
                "call osp.join in attempt",
                "extends Exception in JobError",
                "extends abc.ABC in Job",
                "extends Generic in Job",
                "call Job.create in main",
                "call ().run in main",
                "call retry in file",
                "type Job in register",
            ],
        ),
        (
            "sample.go",
            &[
                "call m.Abs in Run",
                "call j.run in Run",
                "call New in init",
                "extends Base in Job",
                "call wrap in newError",
                "type context.Context in run",
            ],
        ),
        (
            "sample.java",
            &[
                "call items.add in add",
                "call requireNonNull in JobQueue",
                "extends AbstractList in JobQueue",
                "implements Closeable in JobQueue",
                "implements Iterable in JobQueue",
                "call IllegalArgumentException in Point",
                "use Deprecated in JobQueue",
                "call Math.sqrt in length",
            ],
        ),
        (
            "sample.c",
            &[
                "call visit in ring_slots",
                "call hash in ring_slots",
                "call ring_new in main",
                "type ring_t in ring_new",
            ],
        ),
    ] {
        let found = references(sample);
        for reference in expected {
            assert!(
                found.iter().any(|found| found == reference),
                "{sample}: {reference} is not in {found:#?}"
            );
        }
    }
}

#[test]
fn imports_have_module_name_and_alias() {
    for (sample, expected) in [
        (
            "sample.rs",
            &[
                "std::collections HashMap - 2",
                "std::fmt - - 2",
                "std::fmt Display Show 2",
                "crate::clock * - 3",
            ][..],
        ),
        (
            "sample.ts",
            &[
                "node:fs default fs 1",
                "node:fs readFile read 1",
                "node:path * path 2",
                "./config.js Config - 3",
                "./helper.js helper - 4",
            ],
        ),
        (
            "sample.js",
            &[
                "node:http - http 1",
                "node:path - - 2",
                "./lib.js default def 3",
                "./lib.js named other 3",
            ],
        ),
        (
            "sample.py",
            &[
                "os.path - osp 4",
                "collections.abc Iterable - 5",
                "collections.abc Mapping Map 5",
                ".store * - 6",
            ],
        ),
        (
            "sample.go",
            &["context - - 5", "math - m 6", "strings * - 7"],
        ),
        (
            "sample.java",
            &["java.util List - 3", "java.util.Objects * - 4"],
        ),
        ("sample.c", &["stdlib.h - - 2", "ring.h - - 3"]),
    ] {
        let outline = outline(sample);
        let found = outline.imports.iter().map(|import| {
            let name = import.name.as_deref().unwrap_or("-");
            let alias = import.alias.as_deref().unwrap_or("-");
            format!("{} {name} {alias} {}", import.module, import.line)
        });
        let found: Vec<_> = found.filter(|it| !it.starts_with("__future__")).collect();
        assert_eq!(found, expected, "{sample}");
    }
}

#[test]
fn documentation_and_visibility() {
    for (sample, name, documentation, exported) in [
        (
            "sample.rs",
            "Cache",
            Some("Keeps values\nfor a while."),
            true,
        ),
        ("sample.rs", "entries", None, false),
        (
            "sample.ts",
            "MemoryStore",
            Some("Keeps values in memory."),
            true,
        ),
        ("sample.ts", "values", None, false),
        (
            "sample.ts",
            "RETRIES",
            Some("How often a request is tried."),
            true,
        ),
        ("sample.ts", "counter", None, false),
        ("sample.js", "Queue", Some("A queue of jobs."), false),
        ("sample.js", "handler", None, true),
        ("sample.py", "JobError", Some("A job failed."), true),
        ("sample.py", "run", Some("Runs it.\n\n        Once."), true),
        ("sample.py", "retry", Some("Decorates a function."), true),
        ("sample.py", "_registry", None, false),
        ("sample.go", "MaxJobs", Some("MaxJobs is the limit."), true),
        ("sample.go", "Push", Some("Push adds an item."), true),
        ("sample.go", "wrap", None, false),
        ("sample.java", "JobQueue", Some("A queue of jobs."), true),
        ("sample.java", "onDone", None, true),
        ("sample.java", "items", None, false),
        ("sample.c", "entry", Some("One entry."), true),
        ("sample.c", "ring_new", Some("Makes a ring."), true),
        ("sample.c", "hash", None, false),
    ] {
        let outline = outline(sample);
        let symbol = outline
            .symbols
            .iter()
            .find(|symbol| symbol.name == name)
            .expect(name);
        assert_eq!(
            symbol.documentation.as_deref(),
            documentation,
            "{sample}: {name}"
        );
        assert_eq!(symbol.exported, exported, "{sample}: {name}");
    }
}

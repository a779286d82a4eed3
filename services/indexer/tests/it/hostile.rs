//! Repositories that nobody makes by accident.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use kijko_indexer::child::ChildError;

use crate::{
    child::{json, list, parse, paths, place},
    server::GitServer,
};

fn code(error: ChildError) -> String {
    match error {
        ChildError::Failed { code, .. } => code,
        other => other.to_string(),
    }
}

/// An object of any content, as no checkout makes it.
fn object(server: &GitServer, kind: &str, content: &[u8]) -> String {
    let mut process = Command::new("git")
        .current_dir(server.work())
        .args(["hash-object", "-w", "--literally", "-t", kind, "--stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(content).unwrap();
    let run = process.wait_with_output().unwrap();
    assert!(run.status.success());
    String::from_utf8(run.stdout).unwrap().trim().to_owned()
}

fn tree(server: &GitServer, entries: &[(&str, &str, &str)]) -> String {
    let mut content = Vec::new();
    for (mode, name, oid) in entries {
        content.extend_from_slice(format!("{mode} {name}\0").as_bytes());
        let bytes = (0..40)
            .step_by(2)
            .map(|at| u8::from_str_radix(&oid[at..at + 2], 16).unwrap());
        content.extend(bytes);
    }
    object(server, "tree", &content)
}

fn push_tree(server: &GitServer, tree: &str) {
    let commit = server.git(&["commit-tree", "-m", "hostile", tree]);
    server.git(&["update-ref", "HEAD", &commit]);
    server.push_head("main");
}

#[tokio::test]
async fn links_submodules_and_names_of_git_are_not_followed() {
    let server = GitServer::start(true).await;
    let blob = object(&server, "blob", b"fn a() {}\n");
    let link = object(&server, "blob", b"/etc/passwd");
    let inner = tree(&server, &[("100644", "config", &blob)]);
    let odd = "100644";
    let root = tree(
        &server,
        &[
            (odd, "..", &blob),
            (odd, ".", &blob),
            ("40000", ".GIT", &inner),
            ("40000", ".git", &inner),
            (odd, "a.rs", &blob),
            (odd, "bad\nname", &blob),
            ("120000", "link", &link),
            ("160000", "module", &"1".repeat(40)),
            ("40000", "sub", &inner),
        ],
    );
    push_tree(&server, &root);
    let (_, _, entries, _) = list(&server, &place().await, None).await.unwrap();
    assert_eq!(paths(&entries), ["a.rs", "sub/config"]);
}

/// Otherwise a tree that names the blob of a private repository would read it.
#[tokio::test]
async fn a_blob_that_did_not_come_has_not_its_own_id() {
    let server = GitServer::start(true).await;
    let large = object(&server, "blob", &[b'x'; 200_000]);
    let small = object(&server, "blob", b"fn a() {}\n");
    let root = tree(
        &server,
        &[("100644", "a.rs", &small), ("100644", "b.rs", &large)],
    );
    push_tree(&server, &root);
    let (mut child, _, entries, _) = list(&server, &place().await, None).await.unwrap();
    let ids: Vec<_> = entries.iter().map(|entry| entry.oid.as_deref()).collect();
    let absent = format!("{large}{}", "0".repeat(24));
    assert_eq!(ids, [Some(small.as_str()), Some(absent.as_str())]);
    let blob = parse(&mut child, &entries, "b.rs").await.unwrap();
    assert_eq!(
        (blob.oid, blob.skipped.as_deref(), blob.content),
        (absent, Some("too_large"), None)
    );
}

#[tokio::test]
async fn a_tree_of_trees_ends() {
    let server = GitServer::start(true).await;
    let blob = object(&server, "blob", b"x");
    let names: Vec<String> = (10..30).map(|n| format!("d{n}")).collect();
    let mut id = tree(&server, &[("100644", "f", &blob)]);
    for _ in 0..12 {
        let entries: Vec<_> = names
            .iter()
            .map(|name| ("40000", name.as_str(), id.as_str()))
            .collect();
        id = tree(&server, &entries);
    }
    push_tree(&server, &id);
    assert_eq!(
        code(list(&server, &place().await, None).await.unwrap_err()),
        "too_many_files"
    );

    // A chain deeper than any path.
    let mut id = tree(&server, &[("100644", "f", &blob)]);
    for _ in 0..150 {
        id = tree(&server, &[("40000", "d", id.as_str())]);
    }
    let root = tree(&server, &[("100644", "a", &blob), ("40000", "d", &id)]);
    push_tree(&server, &root);
    let (_, _, entries, _) = list(&server, &place().await, None).await.unwrap();
    assert_eq!(paths(&entries), ["a"]);
}

#[tokio::test]
async fn too_many_files_are_refused() {
    let server = GitServer::start(true).await;
    let blob = object(&server, "blob", b"x");
    let names: Vec<String> = (0..1_001).map(|n| format!("f{n:06}")).collect();
    let entries: Vec<_> = names
        .iter()
        .map(|name| ("100644", name.as_str(), blob.as_str()))
        .collect();
    let root = tree(&server, &entries);
    push_tree(&server, &root);
    assert_eq!(
        code(list(&server, &place().await, None).await.unwrap_err()),
        "too_many_files"
    );
}

#[tokio::test]
async fn large_binary_and_nested_files_are_stored_without_harm() {
    for filter in [true, false] {
        let server = GitServer::start(filter).await;
        let deep = "fn f() {\n".repeat(8_000);
        let line = format!("let x = \"{}\";\n", "a".repeat(50_000));
        server.write(&[
            ("bomb.bin", &vec![0; 8 << 20]),
            ("a.bin", b"\0\x01"),
            ("deep.rs", deep.as_bytes()),
            ("line.js", line.as_bytes()),
            ("node_modules/x/index.js", b"function x() {}\n"),
            ("good.rs", b"fn good() {}\n"),
            ("empty.rs", b""),
        ]);
        server.push("main");
        let (mut child, _, entries, bytes) = list(&server, &place().await, None).await.unwrap();
        assert!(bytes < 1 << 20, "{bytes}");
        for (path, skipped, symbols) in [
            ("bomb.bin", Some("too_large"), 0),
            ("a.bin", Some("binary"), 0),
            ("line.js", Some("generated"), 0),
            ("node_modules/x/index.js", Some("generated"), 0),
            ("empty.rs", None, 0),
            ("good.rs", None, 1),
        ] {
            let blob = parse(&mut child, &entries, path).await.unwrap();
            let found = json(&blob.symbols).as_array().unwrap().len();
            assert_eq!(
                (blob.skipped.as_deref(), found),
                (skipped, symbols),
                "{path}"
            );
        }
        let deep = parse(&mut child, &entries, "deep.rs").await.unwrap();
        assert!(deep.content.is_some());
    }
}

/// A pack that cannot be indexed within the memory ends its own child only.
#[tokio::test]
async fn a_bomb_ends_its_own_child() {
    let server = GitServer::start(false).await;
    server.write(&[("bomb.bin", &vec![0; 80 << 20])]);
    server.push("main");
    assert_eq!(
        code(list(&server, &place().await, None).await.unwrap_err()),
        "parse_failed"
    );
}

#[tokio::test]
async fn packs_that_are_none_are_refused() {
    let place = place().await;
    let (name, path) = place.folder.incoming();
    for content in [
        &b""[..],
        b"PACK",
        b"PACK\0\0\0\x02\xff\xff\xff\xff",
        &[0xff; 4_096],
    ] {
        std::fs::write(&path, content).unwrap();
        let open = crate::child::open(&place, &"a".repeat(40), None, Some(name.clone()));
        let error = crate::child::start().open(open).await.unwrap_err();
        assert_eq!(code(error), "parse_failed", "{content:?}");
    }
}

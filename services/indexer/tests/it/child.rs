//! The child on real packs: what it lists, what differs after a push, and what the kernel took from it.

use std::{fs, path::Path, time::Duration};

use kijko_indexer::{
    cache::{Cache, Folder},
    child::{Blob, Child, ChildError, Entry, File, Listed, Open},
};
use uuid::Uuid;

use crate::{
    fetch::{fetcher, source},
    server::GitServer,
};

pub const MEMORY: u64 = 256 << 20;

pub fn start() -> Child {
    let program = Path::new(env!("CARGO_BIN_EXE_kijko-indexer"));
    Child::start(program, MEMORY, Duration::from_secs(60)).unwrap()
}

pub fn json(part: &str) -> serde_json::Value {
    serde_json::from_str(part).unwrap()
}

/// A cache with one folder.
pub struct Place {
    pub folder: Folder,
    _cache: Cache,
    _dir: tempfile::TempDir,
}

pub async fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), 1 << 30, Duration::from_secs(86_400)).unwrap();
    let folder = cache
        .enter(Uuid::from_u128(1), "https://example.com/a.git")
        .await
        .unwrap();
    Place {
        folder,
        _cache: cache,
        _dir: dir,
    }
}

pub fn open(place: &Place, commit: &str, base: Option<&str>, pack: Option<String>) -> Open {
    Open {
        folder: place.folder.path().to_owned(),
        pack,
        commit: commit.to_owned(),
        base: base.map(str::to_owned),
        include: Vec::new(),
        exclude: Vec::new(),
        max_files: 1_000,
        max_file_bytes: 100_000,
        max_bytes: 10 << 20,
    }
}

/// Fetches a branch into the cache and lists it.
pub async fn list(
    server: &GitServer,
    place: &Place,
    base: Option<&str>,
) -> Result<(Child, Listed, Vec<Entry>, u64), ChildError> {
    let source = kijko_indexer::fetch::Source {
        max_file_bytes: 100_000,
        ..source(&server.url)
    };
    let mut remote = fetcher("127.0.0.1", "").connect(&source).await.unwrap();
    let commit = remote.commit_of(Some("main")).await.unwrap();
    let (name, path) = place.folder.incoming();
    let known = place.folder.commits().unwrap();
    let bytes = remote.pack(&commit, &known, &path).await.unwrap();
    let mut child = start();
    let listed = child.open(open(place, &commit, base, Some(name))).await?;
    place.folder.remember(&commit).unwrap();
    let mut entries = Vec::new();
    loop {
        let page = child.page().await?;
        if page.is_empty() {
            break;
        }
        entries.extend(page);
    }
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    Ok((child, listed, entries, bytes))
}

pub fn paths(entries: &[Entry]) -> Vec<String> {
    let path = |entry: &Entry| match entry.oid {
        Some(_) => entry.path.clone(),
        None => format!("-{}", entry.path),
    };
    entries.iter().map(path).collect()
}

pub async fn parse(child: &mut Child, entries: &[Entry], path: &str) -> Result<Blob, ChildError> {
    let entry = entries.iter().find(|entry| entry.path == path).unwrap();
    let file = File {
        oid: entry.oid.clone().unwrap(),
        path: path.to_owned(),
    };
    child.parse(std::slice::from_ref(&file)).await?;
    child.blob(&file).await
}

#[tokio::test]
async fn a_push_costs_what_it_changes() {
    let server = GitServer::start(true).await;
    let noise: Vec<u8> = (0..60_000u32)
        .flat_map(|n| format!("{:x} ", n.wrapping_mul(2_654_435_761)).into_bytes())
        .collect();
    server.write(&[
        ("src/a.rs", b"pub fn a() { b(); }\n"),
        ("src/b.rs", b"fn b() {}\n"),
        ("text/x.txt", &noise[..90_000]),
        ("old.py", b"x = 1\n"),
    ]);
    let first = server.push("main");
    let place = place().await;
    let (mut child, listed, entries, all) = list(&server, &place, None).await.unwrap();
    assert_eq!(
        (listed.full, listed.files, listed.committed_at),
        (true, 4, 1_767_323_045)
    );
    assert_eq!(
        paths(&entries),
        ["old.py", "src/a.rs", "src/b.rs", "text/x.txt"]
    );
    let blob = parse(&mut child, &entries, "src/a.rs").await.unwrap();
    assert_eq!(
        (blob.bytes, blob.lines, blob.language.as_deref()),
        (20, 1, Some("rust"))
    );
    assert_eq!(json(&blob.symbols)[0]["name"], "a");
    assert_eq!(
        (
            &json(&blob.references)[0]["name"],
            &json(&blob.references)[0]["symbol"]
        ),
        (&"b".into(), &0.into())
    );

    fs::remove_file(server.work().join("old.py")).unwrap();
    server.git(&["mv", "src/b.rs", "src/c.rs"]);
    server.write(&[("src/a.rs", b"pub fn a2() {}\n")]);
    let second = server.push("main");
    let (mut child, listed, entries, some) = list(&server, &place, Some(&first)).await.unwrap();
    assert_eq!(
        (listed.full, place.folder.commits().unwrap().len()),
        (false, 2)
    );
    assert_eq!(
        paths(&entries),
        ["-old.py", "src/a.rs", "-src/b.rs", "src/c.rs"]
    );
    assert!(some < all / 10, "{some} of {all}");
    // The blob of a renamed file came with an earlier pack.
    assert_eq!(
        parse(&mut child, &entries, "src/c.rs")
            .await
            .unwrap()
            .content
            .as_deref(),
        Some("fn b() {}\n")
    );

    // A force push to what has another history.
    server.git(&["checkout", "--quiet", "--orphan", "other"]);
    server.write(&[("src/a.rs", b"pub fn a3() {}\n")]);
    server.push("main");
    let (_, listed, entries, _) = list(&server, &place, Some(&second)).await.unwrap();
    assert_eq!(
        (listed.full, paths(&entries)),
        (false, vec!["src/a.rs".to_owned()])
    );

    // A base that the cache does not have, and a broken cache.
    let unknown = "a".repeat(40);
    let (_, listed, entries, _) = list(&server, &place, Some(&unknown)).await.unwrap();
    assert_eq!((listed.full, entries.len()), (true, 3));
    let error = start()
        .open(open(&place, &unknown, None, None))
        .await
        .unwrap_err();
    assert!(matches!(error, ChildError::Failed { code, .. } if code == "parse_failed"));
}

#[tokio::test]
async fn filters_choose_files() {
    let server = GitServer::start(true).await;
    server.write(&[
        ("src/a.rs", b"1"),
        ("src/gen/b.rs", b"2"),
        ("lib/c.rs", b"3"),
    ]);
    let commit = server.push("main");
    let place = place().await;
    list(&server, &place, None).await.unwrap();
    let listed = async |include: &[&str], exclude: &[&str]| {
        let owned = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let open = Open {
            include: owned(include),
            exclude: owned(exclude),
            ..open(&place, &commit, None, None)
        };
        let mut child = start();
        child.open(open).await?;
        child.page().await
    };
    assert_eq!(
        paths(&listed(&["src"], &["**/gen/**"]).await.unwrap()),
        ["src/a.rs"]
    );
    let error = listed(&["["], &[]).await.unwrap_err();
    assert!(matches!(error, ChildError::Failed { code, .. } if code == "invalid_input"));
}

#[tokio::test]
async fn the_kernel_bounds_the_child() {
    let place = place().await;
    let mut child = start();
    // It answers when its limits are set.
    child
        .open(open(&place, &"a".repeat(40), None, None))
        .await
        .unwrap_err();
    let child = {
        let server = GitServer::start(true).await;
        server.write(&[("a.rs", b"")]);
        server.push("main");
        list(&server, &place, None).await.unwrap().0
    };
    let pid = child.pid().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let has = |line: &str| {
        status
            .lines()
            .any(|it| it.split_whitespace().eq(line.split(' ')))
    };
    assert!(has("Seccomp: 2") && has("NoNewPrivs: 1"), "{status}");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let limit = |name: &str| {
        limits
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap()
            .to_owned()
    };
    assert!(
        limit("Max data size").contains(&MEMORY.to_string()),
        "{limits}"
    );
    assert!(limit("Max cpu time").contains("60"), "{limits}");
    let elsewhere = Some("/etc/hostname".to_owned());
    let error = start()
        .open(open(&place, &"a".repeat(40), None, elsewhere))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("denied"), "{error}");
    drop(child);
    let gone = async {
        while Path::new(&format!("/proc/{pid}/exe")).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .unwrap();
}

//! The fetcher against a real server: commits, packs, tokens and redirects.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Method, Response},
};
use kijko_core::{jobs::Failure, secret::Secret};
use kijko_guard::Guard;
use kijko_indexer::fetch::{FetchError, Fetcher, Source, Token};

use crate::server::GitServer;

pub fn fetcher(allowed: &str, mirrors: &str) -> Fetcher {
    let guard = Guard::new(allowed.parse().unwrap());
    Fetcher::new(guard, mirrors.parse().unwrap(), Duration::from_secs(20)).unwrap()
}

pub fn source(url: &str) -> Source {
    Source {
        clone_url: url.to_owned(),
        branch: Some("main".to_owned()),
        token: None,
        max_bytes: 50 << 20,
        max_file_bytes: 1 << 20,
    }
}

async fn failure(fetcher: &Fetcher, source: &Source) -> Failure {
    let connected = async {
        let mut remote = fetcher.connect(source).await?;
        remote.commit_of(source.branch.as_deref()).await
    };
    let error: FetchError = connected.await.expect_err("a failure");
    error.into()
}

#[tokio::test]
async fn branches_have_commits_and_packs_have_limits() {
    let server = GitServer::start(true).await;
    server.write(&[("src/a.rs", b"fn a() {}\n")]);
    let commit = server.push("main");
    let fetcher = fetcher("127.0.0.1", "");
    let mut remote = fetcher.connect(&source(&server.url)).await.unwrap();
    assert_eq!(remote.commit_of(Some("main")).await.unwrap(), commit);
    assert_eq!(remote.commit_of(None).await.unwrap(), commit);
    let missing = remote.commit_of(Some("mai")).await.unwrap_err();
    assert_eq!(Failure::from(missing).code, "branch_not_found");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.pack");
    let bytes = remote.pack(&commit, &[], &file).await.unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().len(), bytes);
    let small = Source {
        max_bytes: bytes - 1,
        ..source(&server.url)
    };
    let mut remote = fetcher.connect(&small).await.unwrap();
    let error = remote.pack(&commit, &[], &file).await.unwrap_err();
    assert_eq!(Failure::from(error).code, "repository_too_large");
}

#[tokio::test]
async fn a_token_goes_to_its_own_host_only() {
    let server = GitServer::start(true).await;
    server.push("main");
    let address = server.url.strip_suffix("/acme/app.git").unwrap();
    let fetcher = fetcher("127.0.0.1", &format!("github.com={address}"));
    let token = |host: &str| Token {
        host: host.to_owned(),
        user: "x-access-token",
        secret: Secret::new("hunter2"),
    };
    let with = |url: &str, host: &str| Source {
        token: Some(token(host)),
        ..source(url)
    };
    let sent = || {
        server
            .seen
            .lock()
            .unwrap()
            .last()
            .unwrap()
            .authorization
            .clone()
    };

    let expected = Some("Basic eC1hY2Nlc3MtdG9rZW46aHVudGVyMg==".to_owned());
    fetcher
        .connect(&with("https://github.com/acme/app.git", "github.com"))
        .await
        .unwrap();
    assert_eq!(sent(), expected);
    for (url, host) in [
        ("https://github.com/acme/app.git", "gitlab.com"),
        (server.url.as_str(), "github.com"),
        (server.url.as_str(), "127.0.0.1"),
    ] {
        fetcher.connect(&with(url, host)).await.unwrap();
        assert_eq!(sent(), None, "{url} {host}");
    }
    // A renamed repository is found, and nothing is sent along.
    let mut remote = fetcher
        .connect(&with("https://github.com/old/app.git", "github.com"))
        .await
        .unwrap();
    assert_eq!(sent(), None);
    remote.commit_of(Some("main")).await.unwrap();
    let seen = server.seen.lock().unwrap();
    assert_eq!(seen.last().unwrap().path, "/acme/app.git/git-upload-pack");
    assert_eq!(
        seen[seen.len() - 3].authorization,
        expected,
        "before the redirect"
    );
    assert_eq!(seen.last().unwrap().authorization, None);
}

#[tokio::test]
async fn addresses_that_are_not_public_are_refused_also_behind_a_redirect() {
    let server = GitServer::start(true).await;
    let address = server.url.strip_suffix("/acme/app.git").unwrap();
    let open = fetcher("127.0.0.1", "");
    let closed = fetcher("", "");
    for (fetcher, url, code) in [
        (&closed, server.url.clone(), "host_not_allowed"),
        (
            &closed,
            "https://169.254.169.254/x.git".to_owned(),
            "host_not_allowed",
        ),
        (
            &closed,
            "https://localhost/x.git".to_owned(),
            "host_not_allowed",
        ),
        (
            &closed,
            "http://github.com/a/b.git".to_owned(),
            "host_not_allowed",
        ),
        (
            &closed,
            "ssh://git@github.com/a/b.git".to_owned(),
            "host_not_allowed",
        ),
        (
            &closed,
            "git@github.com:a/b.git".to_owned(),
            "host_not_allowed",
        ),
        (&closed, "file:///etc".to_owned(), "host_not_allowed"),
        (&open, format!("{address}/away/x.git"), "host_not_allowed"),
        (
            &open,
            format!("{address}/private/x.git"),
            "authentication_failed",
        ),
        (
            &open,
            format!("{address}/acme/none.git"),
            "repository_not_found",
        ),
    ] {
        let failure = failure(fetcher, &source(&url)).await;
        assert_eq!(
            (failure.code.as_ref(), failure.retryable),
            (code, false),
            "{url}"
        );
    }
    assert_eq!(
        failure(&open, &source("http://127.0.0.1:1/x.git"))
            .await
            .code,
        "fetch_failed"
    );
}

/// What comes now and then, after what comes at once.
type Trickle = (&'static str, &'static str);

/// A pack of which little comes now and then. It would hold a place of the indexer for the whole time of the plan.
async fn trickle(State((first, then)): State<Trickle>, request: Request) -> Response<Body> {
    let answer = |kind: &str, body| {
        let kind = format!("application/x-git-upload-pack-{kind}");
        let answer = Response::builder().header("content-type", kind);
        answer.body(body).unwrap()
    };
    if request.method() == Method::GET {
        return answer("advertisement", Body::from("000eversion 2\n0000"));
    }
    let bytes = futures_util::stream::unfold(first, move |part| async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Some((Ok::<_, std::io::Error>(part), then))
    });
    answer("result", Body::from_stream(bytes))
}

async fn is_given_up(trickled: Trickle) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/a.git", listener.local_addr().unwrap());
    let routes = Router::new().fallback(trickle).with_state(trickled);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let guard = Guard::new("127.0.0.1".parse().unwrap());
    let idle = Duration::from_secs(1);
    let fetcher = Fetcher::new(guard, "".parse().unwrap(), idle).unwrap();
    let mut remote = fetcher.connect(&source(&url)).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (commit, file) = ("a".repeat(40), dir.path().join("a.pack"));
    let pack = remote.pack(&commit, &[], &file);
    let error = tokio::time::timeout(idle * 60, pack).await.unwrap();
    let failure = Failure::from(error.unwrap_err());
    assert_eq!(
        (&*failure.code, failure.retryable),
        ("fetch_timeout", false)
    );
}

#[tokio::test]
async fn a_server_that_is_hardly_more_than_silent_is_given_up() {
    is_given_up(("000dpackfile\n", "0006\u{1}x")).await;
}

#[tokio::test]
async fn one_frame_of_which_a_byte_comes_now_and_then_is_given_up() {
    is_given_up(("000dpackfile\nfff0\u{1}", "x")).await;
    is_given_up(("fff0", "x")).await;
}

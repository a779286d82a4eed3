use std::error::Error;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn guard(allowed: &str) -> Guard {
    Guard::new(allowed.parse().unwrap())
}

#[test]
fn public_urls_pass() {
    for url in [
        "https://example.com/hook?a=b#c",
        "http://example.com:8080/",
        "https://1.1.1.1/",
        "https://[2606:4700::1111]:8443/",
        "https://bücher.example/",
    ] {
        assert!(guard("").check(url).is_ok(), "{url}");
    }
}

#[test]
fn other_urls_are_refused_with_the_reason() {
    for (url, reason) in [
        ("", Refused::Malformed),
        ("/relative", Refused::Malformed),
        ("https://", Refused::Malformed),
        ("ftp://example.com/", Refused::Scheme),
        ("file:///etc/passwd", Refused::Scheme),
        ("gopher://example.com:6379/_INFO", Refused::Scheme),
        ("unix:///var/run/docker.sock", Refused::Scheme),
        ("https://user@example.com/", Refused::Credentials),
        ("https://:secret@example.com/", Refused::Credentials),
        ("http://example.com:25/", Refused::Port),
        ("http://example.com:22/", Refused::Port),
        ("http://localhost/", Refused::Address),
        ("http://LOCALHOST./", Refused::Address),
        ("http://router/", Refused::Address),
        ("http://a.localhost/", Refused::Address),
        ("http://db.internal:8080/", Refused::Address),
        ("http://127.0.0.1/", Refused::Address),
        ("http://127.1/", Refused::Address),
        ("http://0x7f.1/", Refused::Address),
        ("http://2130706433/", Refused::Address),
        ("http://017700000001/", Refused::Address),
        ("http://169.254.169.254/latest/meta-data/", Refused::Address),
        ("http://①②⑦.0.0.1/", Refused::Address),
        ("http://[::1]/", Refused::Address),
        ("http://[::ffff:127.0.0.1]/", Refused::Address),
        ("http://[::ffff:7f00:1]/", Refused::Address),
        ("http://[fe80::1]/", Refused::Address),
    ] {
        assert_eq!(guard("").check(url), Err(reason), "{url}");
    }
    let long = format!("https://example.com/{}", "a".repeat(MAX_URL));
    assert_eq!(guard("").check(&long), Err(Refused::Malformed));
}

#[test]
fn a_url_has_no_blank_and_no_control_character() {
    let inside = |byte: u8| format!("https://example.com/a{}b", char::from(byte));
    let blanks = (0..=b' ').chain([0x7f]).map(inside);
    let elsewhere = [
        " https://example.com/",
        "https://example.com/\n",
        "ht\ttps://example.com/",
        "https://exam\rple.com/",
        "https://example.com:80\n80/",
        "https://example.com/?a=b c",
        "https://example.com/#a\tb",
    ];
    for url in blanks.chain(elsewhere.map(str::to_owned)) {
        for guard in [guard(""), guard("example.com")] {
            assert_eq!(guard.check(&url), Err(Refused::Malformed), "{url:?}");
        }
    }
}

#[test]
fn an_operator_allows_a_host_with_its_port() {
    let guard = guard("localhost:8080, mail.internal [::1]:9000");
    for url in [
        "http://localhost:8080/",
        "http://mail.internal:25/",
        "https://MAIL.internal/",
        "http://[::1]:9000/",
    ] {
        assert!(guard.check(url).is_ok(), "{url}");
    }
    for url in [
        "http://localhost/",
        "http://localhost:5432/",
        "http://127.0.0.1:8080/",
        "http://[::1]/",
    ] {
        assert_eq!(guard.check(url), Err(Refused::Address), "{url}");
    }
    for list in [
        "http://localhost",
        "user@host",
        "host/path",
        "host:port",
        "*",
    ] {
        assert!(list.parse::<AllowedHosts>().is_err(), "{list}");
    }
}

/// The answer of a server on this machine that says where it sends everybody.
async fn server(answer: &'static str) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            _ = stream.read(&mut request).await;
            _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    port
}

#[tokio::test]
async fn a_name_is_checked_when_it_is_resolved() {
    let port = server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    // Nothing but the resolver stands in the way: check() was not asked.
    let url = format!("http://localhost:{port}/");
    let client = guard("").client(|client| client).unwrap();
    let error = client.get(&url).send().await.unwrap_err();
    let mut cause: Option<&dyn Error> = Some(&error);
    let mut causes = Vec::new();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    assert!(causes.contains(&Refused::Address.to_string()), "{causes:?}");
    let client = guard("localhost").client(|client| client).unwrap();
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let port = server(
        "HTTP/1.1 307 Away\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let client = guard("localhost").client(|client| client).unwrap();
    let answer = client
        .get(format!("http://localhost:{port}/"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 307);
}

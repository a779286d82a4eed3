//! The program itself: arguments, configuration, signals.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::required;

fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_kijko-sidecar"));
    program
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    program
}

#[test]
fn it_says_its_version() {
    let output = program().arg("--version").output().unwrap();
    assert!(output.status.success());
    assert_eq!(
        String::from_utf8(output.stdout).unwrap().trim(),
        format!("kijko-sidecar {}", kijko_sidecar::VERSION)
    );
}

#[test]
fn misuse_ends_with_2_and_names_every_problem_but_no_secret() {
    assert_eq!(
        program().arg("--serve").output().unwrap().status.code(),
        Some(2)
    );
    let output = program()
        .env("DATABASE_URL", "postgres://user:hunter2@host:notaport/db")
        .env("KIJKO_LEASE_SECONDS", "0")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("DATABASE_URL") && text.contains("KIJKO_LEASE_SECONDS"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
}

/// Every setting with a value that it cannot have.
const BAD_SETTINGS: [(&str, &str); 87] = [
    ("DATABASE_URL", "mysql://nobody@nowhere/db"),
    ("KIJKO_SIDECAR_BIND", "here"),
    ("KIJKO_SIDECAR_OPERATORS_BIND", "127.0.0.1"),
    ("KIJKO_ERASURE_JOURNAL", "journal"),
    ("KIJKO_EXPORT_DIR", "exports"),
    ("KIJKO_EXPORT_MAX_BYTES", "much"),
    ("KIJKO_SLOW_REQUEST_MS", "0"),
    ("KIJKO_REQUEST_TIMEOUT_SECONDS", "-1"),
    ("KIJKO_MAX_BODY_BYTES", "1 MiB"),
    ("KIJKO_WORKER_CONCURRENCY", "1001"),
    ("KIJKO_WORKER_SHORT_SLOTS", "1001"),
    ("KIJKO_LEASE_SECONDS", "1"),
    ("KIJKO_POLL_SECONDS", "0.5"),
    ("KIJKO_RECORD_SECONDS", "0"),
    ("KIJKO_SHUTDOWN_SECONDS", "3601"),
    ("KIJKO_QUEUE_AGE_WARN_SECONDS", "none"),
    ("KIJKO_DB_POOL_SIZE", "0"),
    ("KIJKO_GATEWAY_DATABASE_URL", "mysql://nobody@nowhere/db"),
    ("KIJKO_GATEWAY_POOL_SIZE", "0"),
    ("KIJKO_DB_TIMEOUT_SECONDS", "0"),
    ("KIJKO_ACCESS_LOG", "access.log"),
    ("KIJKO_REQUEST_SAMPLE", "0"),
    ("KIJKO_DISK_FOLDERS", "data"),
    ("KIJKO_CERTIFICATE_ADDRESS", "host"),
    ("OTEL_TRACES_SAMPLER_ARG", "2"),
    ("KIJKO_LLM_ECHO", "yes"),
    ("KIJKO_LLM_DEFAULT_MAX_TOKENS", "0"),
    ("KIJKO_LLM_CONNECT_TIMEOUT_SECONDS", "121"),
    ("KIJKO_LLM_TIMEOUT_SECONDS", "0"),
    ("KIJKO_LLM_IDLE_TIMEOUT_SECONDS", "3601"),
    ("KIJKO_LLM_MAX_RESPONSE_BYTES", "1023"),
    ("KIJKO_LLM_MAX_BODY_BYTES", "33554433"),
    ("KIJKO_LLM_MAX_CALLS", "0"),
    ("KIJKO_LLM_MAX_CALLS_OF_CALLER", "0"),
    ("KIJKO_LLM_MAX_CALLS_OF_PROVIDER", "many"),
    ("OPENAI_API_KEY", "a\u{7f}b"),
    ("ANTHROPIC_API_KEY", "a\nb"),
    ("GEMINI_API_KEY", "a\nb"),
    ("OPENAI_BASE_URL", "ftp://h"),
    ("ANTHROPIC_BASE_URL", "http://u:p@h"),
    ("GEMINI_BASE_URL", "http://h?key=1"),
    ("KIJKO_SEARXNG_URL", "ftp://h"),
    ("TAVILY_API_KEY", "a\nb"),
    ("TAVILY_BASE_URL", "http://h?key=1"),
    ("KIJKO_DISCOVERY_HOST_PAUSE_MS", "60001"),
    ("KIJKO_REST_URL", "ftp://h"),
    ("KIJKO_STORAGE_URL", "ftp://h"),
    ("KIJKO_SOCIAL_LINKEDIN_URL", "ftp://h"),
    ("KIJKO_SOCIAL_LINKEDIN_VERSION", "may"),
    ("KIJKO_SOCIAL_FACEBOOK_URL", "http://u:p@h"),
    ("KIJKO_SOCIAL_INSTAGRAM_URL", "http://h?key=1"),
    ("KIJKO_SOCIAL_TWITTER_URL", "here"),
    ("KIJKO_SOCIAL_TIMEOUT_SECONDS", "0"),
    ("SMTP_URL", "http://mail.example.com"),
    ("KIJKO_MAIL_FROM", "nobody"),
    ("KIJKO_SMTP_STARTTLS", "sometimes"),
    ("KIJKO_SMTP_CA_FILE", "/nowhere"),
    ("KIJKO_SMTP_CONNECT_TIMEOUT_SECONDS", "0"),
    ("KIJKO_SMTP_TIMEOUT_SECONDS", "241"),
    ("STRIPE_API_KEY", "whsec_x"),
    ("STRIPE_API_URL", "ftp://h"),
    ("STRIPE_WEBHOOK_SECRET", "no_prefix"),
    ("STRIPE_WEBHOOK_SECRET", "whsec_ok, short"),
    ("KIJKO_OAUTH_PROVIDERS", "email"),
    ("KIJKO_OAUTH_LINK_BY_ADDRESS", "gitlab"),
    ("KIJKO_OAUTH_ALLOWED_HOSTS", "id.internal:port"),
    ("KIJKO_OAUTH_GITHUB_CLIENT_ID", ","),
    ("KIJKO_OAUTH_GITHUB_CLIENT_SECRET", ""),
    ("KIJKO_OAUTH_GITHUB_URL", "ftp://h"),
    ("KIJKO_OAUTH_GITHUB_SCOPES", "a\nb"),
    ("KIJKO_OAUTH_GITHUB_KIND", "saml"),
    ("KIJKO_CONNECTION_PROVIDERS", "email"),
    ("KIJKO_OAUTH_GITHUB_CONNECTION_SCOPES", "a\nb"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "here:4318"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://h"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "no pair"),
    ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a b=c"),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
    ("OTEL_RESOURCE_ATTRIBUTES", "=x"),
    (
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
        "perhaps",
    ),
    ("SENTRY_DSN", "https://sentry.example.com/1"),
    ("SENTRY_ENVIRONMENT", "a b"),
    ("SENTRY_RELEASE", "a/b"),
    ("KIJKO_LOG", "kijko_sidecar=loudly"),
    ("KIJKO_LOG_FORMAT", "xml"),
];

#[test]
fn a_bad_value_of_each_setting_alone_stops_the_start() {
    for (name, value) in BAD_SETTINGS {
        let child = program()
            .env("DATABASE_URL", "postgres://user:hunter2@127.0.0.1:1/db")
            .env("KIJKO_SIDECAR_BIND", "127.0.0.1:0")
            .env("KIJKO_SIDECAR_OPERATORS_BIND", "127.0.0.1:0")
            .env("KIJKO_OAUTH_PROVIDERS", "github")
            .env("KIJKO_CONNECTION_PROVIDERS", "github")
            .env("KIJKO_OAUTH_GITHUB_CLIENT_ID", "id")
            .env("KIJKO_OAUTH_GITHUB_CLIENT_SECRET", "hidden")
            .env(name, value)
            .spawn()
            .unwrap();
        let mut sidecar = Sidecar::of(child);
        let status = sidecar.ends_within(Duration::from_secs(20));
        let mut text = String::new();
        let mut errors = sidecar.child.stderr.take().unwrap();
        errors.read_to_string(&mut text).unwrap();
        assert_eq!(status, Some(2), "{name}={value} {text}");
        let (_heading, problems) = text.split_once('\n').unwrap();
        let words = problems.lines().map(str::split_whitespace);
        let named: Vec<_> = words.filter_map(|mut words| words.next()).collect();
        assert_eq!(named, [name], "{value} {text}");
    }
}

/// A setting that is added is added to the list above as well.
#[test]
fn every_documented_setting_is_tried() {
    let guide = include_str!("../../../docs/reference/settings.md");
    let section = guide.split("\n## Sidecar\n").nth(1).unwrap();
    let table = section.split("\n## ").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let documented: std::collections::BTreeSet<_> = rows
        .flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2))
        .collect();
    let tried: std::collections::BTreeSet<_> = BAD_SETTINGS.iter().map(|(name, _)| *name).collect();
    assert_eq!(tried, documented);
}

#[test]
fn as_the_reader_of_the_log_of_requests_it_needs_the_log() {
    let url = ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/db");
    let output = program().arg("requests").envs([url]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("KIJKO_ACCESS_LOG is required"), "{text}");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for (taken_by, other) in [
        ("KIJKO_SIDECAR_BIND", "KIJKO_SIDECAR_OPERATORS_BIND"),
        ("KIJKO_SIDECAR_OPERATORS_BIND", "KIJKO_SIDECAR_BIND"),
    ] {
        let output = program()
            .env("DATABASE_URL", "postgres://user:hunter2@127.0.0.1:1/db")
            .env(taken_by, taken.local_addr().unwrap().to_string())
            .env(other, "127.0.0.1:0")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(taken_by), "{text}");
    }
}

/// The report leaves the process that ends for what it is about.
#[test]
fn why_it_could_not_start_is_reported_to_sentry() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let sentry = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dsn = format!("http://key@{}/1", sentry.local_addr().unwrap());
    let reported = std::thread::spawn(move || {
        let (mut socket, _) = sentry.accept().unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let (mut text, mut part) = (String::new(), [0; 4096]);
        // The head, and as many bytes as it says.
        let is_whole = |text: &str| {
            let (head, body) = text.split_once("\r\n\r\n")?;
            let length = head.split_once("content-length: ")?.1.lines().next()?;
            Some(body.len() >= length.parse().unwrap())
        };
        while is_whole(&text) != Some(true) {
            let read = socket.read(&mut part).unwrap();
            assert!(read > 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&part[..read]));
        }
        std::io::Write::write_all(
            &mut socket,
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        )
        .unwrap();
        text
    });
    let output = program()
        .env("DATABASE_URL", "postgres://user:hunter2@127.0.0.1:1/db")
        .env(
            "KIJKO_SIDECAR_BIND",
            taken.local_addr().unwrap().to_string(),
        )
        .env("SENTRY_DSN", dsn)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report = reported.join().unwrap();
    assert!(report.starts_with("POST /api/1/envelope/ "), "{report}");
    assert!(
        report.contains("the service failed") && report.contains("kijko-sidecar@"),
        "{report}"
    );
    assert!(
        !report.contains("hunter2") && report.contains("cannot listen on ***"),
        "{report}"
    );
}

/// A running sidecar, killed if a test fails.
struct Sidecar {
    child: Child,
    lines: Vec<String>,
    output: BufReader<std::process::ChildStdout>,
}

impl Sidecar {
    fn start(database_url: &str) -> Self {
        let child = program()
            .env("DATABASE_URL", database_url)
            .env("KIJKO_SIDECAR_BIND", "127.0.0.1:0")
            .env("KIJKO_SIDECAR_OPERATORS_BIND", "127.0.0.1:0")
            .env("KIJKO_WORKER_CONCURRENCY", "1")
            .env("KIJKO_SHUTDOWN_SECONDS", "2")
            .spawn()
            .unwrap();
        Self::of(child)
    }

    fn of(mut child: Child) -> Self {
        let output = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            lines: Vec::new(),
            output,
        }
    }

    /// Reads the log up to the first line with this text.
    fn wait_for(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).unwrap();
            assert!(
                read > 0,
                "it ended without saying {text:?}: {:?}",
                self.lines
            );
            self.lines.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    fn ends_within(&mut self, limit: Duration) -> Option<i32> {
        let start = Instant::now();
        while start.elapsed() < limit {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it did not end within {limit:?}");
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn without_a_database_it_starts_serves_and_stops() {
    let mut sidecar = Sidecar::start("postgres://user:hunter2@127.0.0.1:1/db");
    let line = sidecar.wait_for("the service starts");
    let line: serde_json::Value = serde_json::from_str(&line).expect("the log is JSON");
    let public = line["address"].as_str().expect("an address");
    let operators = line["operators_address"].as_str().expect("an address");
    for (address, path, status) in [
        (public, "/health", "200"),
        (public, "/ready", "404"),
        (public, "/metrics", "404"),
        (operators, "/health", "200"),
        (operators, "/ready", "503"),
        (operators, "/metrics", "200"),
    ] {
        let answer = http_get(address, path);
        let head = format!("HTTP/1.1 {status}");
        assert!(answer.starts_with(&head), "{path}: {answer}");
    }
    sidecar.signal("TERM");
    assert_eq!(sidecar.ends_within(Duration::from_secs(10)), Some(0));
    let mut rest = String::new();
    sidecar.output.read_to_string(&mut rest).unwrap();
    assert!(!format!("{:?}{rest}", sidecar.lines).contains("hunter2"));
}

#[test]
fn with_the_database_it_listens_and_stops_on_sigint() {
    let mut sidecar = Sidecar::start(&required("KIJKO_TEST_DATABASE_URL"));
    sidecar.wait_for("listening");
    sidecar.signal("INT");
    assert_eq!(sidecar.ends_within(Duration::from_secs(10)), Some(0));
}

#[test]
fn half_a_request_does_not_keep_it_from_stopping() {
    use std::io::Write;
    let mut sidecar = Sidecar::start("postgres://user:hunter2@127.0.0.1:1/db");
    let line = sidecar.wait_for("the service starts");
    let line: serde_json::Value = serde_json::from_str(&line).expect("the log is JSON");
    let mut half = std::net::TcpStream::connect(line["address"].as_str().unwrap()).unwrap();
    write!(half, "GET /health HTTP/1.1\r\nHost: x\r\n").unwrap();
    half.flush().unwrap();
    // A whole one after it: the half has been accepted by now.
    http_get(line["address"].as_str().unwrap(), "/health");
    sidecar.signal("TERM");
    assert_eq!(sidecar.ends_within(Duration::from_secs(30)), Some(0));
}

fn http_get(address: &str, path: &str) -> String {
    use std::io::Write;
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: sidecar\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

//! A repository and its server: `git http-backend` behind a small HTTP server.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Response, StatusCode},
};

/// What one request asked for.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    pub authorization: Option<String>,
}

/// A repository in a folder of its own, and the address that serves it.
pub struct GitServer {
    pub url: String,
    pub seen: Arc<Mutex<Vec<Seen>>>,
    work: PathBuf,
    bare: PathBuf,
    _dir: tempfile::TempDir,
}

#[derive(Clone)]
struct Backend {
    root: PathBuf,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl GitServer {
    /// An empty repository, `/acme/app.git`. With `filter` the server can leave large files out.
    pub async fn start(filter: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (work, bare) = (
            dir.path().join("work"),
            dir.path().join("root/acme/app.git"),
        );
        git(
            dir.path(),
            &["init", "--quiet", "--initial-branch=main", "work"],
        );
        git(
            dir.path(),
            &[
                "init",
                "--quiet",
                "--bare",
                "--initial-branch=main",
                "root/acme/app.git",
            ],
        );
        git(
            &bare,
            &[
                "config",
                "uploadpack.allowFilter",
                if filter { "true" } else { "false" },
            ],
        );
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let root = dir.path().join("root");
        let backend = Backend {
            root,
            seen: seen.clone(),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/acme/app.git", listener.local_addr().unwrap());
        let routes = Router::new().fallback(serve).with_state(backend);
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self {
            url,
            seen,
            work,
            bare,
            _dir: dir,
        }
    }

    /// Writes files, without committing them.
    pub fn write(&self, files: &[(&str, &[u8])]) {
        for (path, content) in files {
            let path = self.work.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    /// Runs git in the work tree.
    pub fn git(&self, arguments: &[&str]) -> String {
        git(&self.work, arguments)
    }

    /// The work tree.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// Commits all that is in the work tree, pushes it to a branch, and returns the commit.
    pub fn push(&self, branch: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", "change"]);
        self.push_head(branch)
    }

    /// Pushes HEAD to a branch, by force.
    pub fn push_head(&self, branch: &str) -> String {
        let bare = self.bare.to_string_lossy().into_owned();
        self.git(&[
            "push",
            "--quiet",
            "--force",
            &bare,
            &format!("HEAD:refs/heads/{branch}"),
        ]);
        self.git(&["rev-parse", "HEAD"])
    }
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let run = Command::new("git")
        .current_dir(folder)
        .args([
            "-c",
            "user.name=Test",
            "-c",
            "user.email=test@example.com",
            "-c",
            "commit.gpgsign=false",
        ])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_COMMITTER_DATE", "2026-01-02T03:04:05Z")
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&run.stderr)
    );
    String::from_utf8(run.stdout).unwrap().trim().to_owned()
}

async fn serve(State(backend): State<Backend>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let header = |name: &str| {
        head.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let path = head.uri.path().to_owned();
    backend.seen.lock().unwrap().push(Seen {
        path: path.clone(),
        authorization: header("authorization"),
    });
    if let Some(moved) = path.strip_prefix("/old/") {
        let to = format!("/acme/{moved}?{}", head.uri.query().unwrap_or_default());
        return Response::builder()
            .status(StatusCode::MOVED_PERMANENTLY)
            .header("location", to)
            .body(Body::empty())
            .unwrap();
    }
    if path.starts_with("/away/") {
        return Response::builder()
            .status(StatusCode::FOUND)
            .header("location", "http://192.168.0.1/x.git/info/refs")
            .body(Body::empty())
            .unwrap();
    }
    if path.starts_with("/private/") {
        return Response::builder()
            .status(StatusCode::UNAUTHORIZED)
            .body(Body::empty())
            .unwrap();
    }
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let environment = [
        ("REQUEST_METHOD", head.method.to_string()),
        ("PATH_INFO", path),
        (
            "QUERY_STRING",
            head.uri.query().unwrap_or_default().to_owned(),
        ),
        ("CONTENT_TYPE", header("content-type").unwrap_or_default()),
        ("GIT_PROTOCOL", header("git-protocol").unwrap_or_default()),
        (
            "GIT_PROJECT_ROOT",
            backend.root.to_string_lossy().into_owned(),
        ),
        ("GIT_HTTP_EXPORT_ALL", "1".to_owned()),
        ("GIT_CONFIG_GLOBAL", "/dev/null".to_owned()),
    ];
    let output = tokio::task::spawn_blocking(move || cgi(&environment, &body))
        .await
        .unwrap();
    answer(&output)
}

fn cgi(environment: &[(&str, String)], body: &Bytes) -> Vec<u8> {
    let mut process = Command::new("git")
        .arg("http-backend")
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(body).unwrap();
    process.wait_with_output().unwrap().stdout
}

fn answer(output: &[u8]) -> Response<Body> {
    let end = output
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let (head, body) = (String::from_utf8_lossy(&output[..end]), &output[end + 4..]);
    let mut response = Response::new(Body::from(body.to_vec()));
    for line in head.lines() {
        let (name, value) = line.split_once(": ").unwrap();
        if name == "Status" {
            *response.status_mut() = value[..3].parse().unwrap();
        } else {
            let name: HeaderName = name.parse().unwrap();
            response
                .headers_mut()
                .insert(name, HeaderValue::from_str(value).unwrap());
        }
    }
    response
}

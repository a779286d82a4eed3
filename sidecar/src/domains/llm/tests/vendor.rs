//! A vendor that answers with scripted bytes.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What happens on the wire after a request.
#[derive(Clone)]
pub(crate) enum Step {
    Send(String),
    Wait(Duration),
    /// Nothing more, until the other side hangs up.
    Hang,
}

/// A vendor: the n-th request gets the n-th list of steps, and the last list again from then on.
pub(crate) struct Vendor {
    pub url: String,
    pub requests: Arc<Mutex<Vec<String>>>,
    pub hung_up: Arc<Mutex<usize>>,
}

pub(crate) fn ok(kind: &str, body: &str) -> Step {
    Step::Send(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n{body}"
    ))
}

pub(crate) fn sse(body: &str) -> Vec<Step> {
    vec![ok("text/event-stream", body)]
}

pub(crate) fn whole(body: &Value) -> Vec<Step> {
    vec![ok("application/json", &body.to_string())]
}

pub(crate) fn status(status: u16, headers: &str, body: &Value) -> Vec<Step> {
    let body = body.to_string();
    let length = body.len();
    vec![Step::Send(format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{headers}connection: close\r\n\r\n{body}"
    ))]
}

/// A chunked answer whose end never comes.
pub(crate) fn broken(body: &str) -> Vec<Step> {
    vec![Step::Send(format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n",
        body.len()
    ))]
}

impl Vendor {
    pub(crate) async fn new(scripts: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let vendor = Self {
            url: format!("http://localhost:{port}/v1"),
            requests: Arc::default(),
            hung_up: Arc::default(),
        };
        let (requests, hung_up) = (vendor.requests.clone(), vendor.hung_up.clone());
        tokio::spawn(async move {
            let mut scripts = scripts.into_iter().peekable();
            while let Ok((stream, _)) = listener.accept().await {
                let script = match scripts.next() {
                    Some(script) if scripts.peek().is_some() => script,
                    Some(last) => {
                        scripts = vec![last.clone(), last.clone()].into_iter().peekable();
                        scripts.next();
                        last
                    }
                    None => return,
                };
                tokio::spawn(serve(stream, script, requests.clone(), hung_up.clone()));
            }
        });
        vendor
    }

    /// Head and body of the n-th request.
    pub(crate) fn request(&self, n: usize) -> (String, Value) {
        let requests = self.requests.lock().unwrap();
        let (head, body) = requests[n].split_once("\r\n\r\n").unwrap();
        (head.to_owned(), serde_json::from_str(body).unwrap())
    }

    pub(crate) fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

async fn serve(
    mut stream: TcpStream,
    steps: Vec<Step>,
    requests: Arc<Mutex<Vec<String>>>,
    hung_up: Arc<Mutex<usize>>,
) {
    let mut request = Vec::new();
    while !is_complete(&request) {
        let mut part = [0; 65_536];
        match stream.read(&mut part).await {
            Ok(read) if read > 0 => request.extend_from_slice(&part[..read]),
            _ => return,
        }
    }
    let text = String::from_utf8(request).unwrap();
    requests.lock().unwrap().push(text);
    for step in steps {
        match step {
            Step::Send(text) => {
                if stream.write_all(text.as_bytes()).await.is_err() {
                    *hung_up.lock().unwrap() += 1;
                    return;
                }
            }
            Step::Wait(time) => tokio::time::sleep(time).await,
            Step::Hang => {
                let _ = stream.read(&mut [0; 1]).await;
                *hung_up.lock().unwrap() += 1;
                return;
            }
        }
    }
    let _ = stream.shutdown().await;
}

fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    body.len() >= length.unwrap_or(0)
}

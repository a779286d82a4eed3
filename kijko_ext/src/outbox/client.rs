//! Sends requests. One thread with a runtime of its own: a slow server costs no thread, and nothing here touches Postgres, whose
//! functions only its own thread may call. The two talk by channels, and an eventfd wakes the worker. The thread and those that
//! it starts for name look-ups have all signals blocked, so that Postgres' own thread gets them.

use std::error::Error;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{io, mem, ptr, thread};

use kijko_guard::{Guard, Refused};
use reqwest::header::{HeaderMap, RETRY_AFTER, SET_COOKIE};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::outcome::{Answer, Call, Failure, Outcome, Reason};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Names are looked up by threads of their own, since the system's resolver blocks.
const MAX_RESOLVER_THREADS: usize = 128;
const MAX_BODY: usize = 64 * 1024;
const MAX_HEADERS: usize = 50;
const MAX_HEADER_BYTES: usize = 1024;
const MAX_ERROR: usize = 500;

enum Command {
    Send(Call),
    Guard(Guard),
}

/// The worker's end.
pub struct Client {
    commands: UnboundedSender<Command>,
    outcomes: mpsc::Receiver<Outcome>,
    wakeup: OwnedFd,
}

impl Client {
    pub fn start(guard: Guard) -> io::Result<Self> {
        let (commands, received) = unbounded_channel();
        let (sender, outcomes) = mpsc::channel();
        let wakeup = eventfd()?;
        let fd = wakeup.as_raw_fd();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(MAX_RESOLVER_THREADS)
            .build()?;
        let run = move || runtime.block_on(serve(received, sender, fd, guard));
        with_signals_blocked(|| {
            thread::Builder::new()
                .name("kijko outbox".into())
                .spawn(run)
        })?;
        Ok(Self {
            commands,
            outcomes,
            wakeup,
        })
    }

    /// Readable when an outcome has come.
    pub fn wakeup(&self) -> RawFd {
        self.wakeup.as_raw_fd()
    }

    /// False when the thread has ended, which only a panic does.
    pub fn send(&self, call: Call) -> bool {
        self.commands.send(Command::Send(call)).is_ok()
    }

    pub fn set_guard(&self, guard: Guard) -> bool {
        self.commands.send(Command::Guard(guard)).is_ok()
    }

    /// What has come since the last time.
    pub fn outcomes(&self) -> Vec<Outcome> {
        let mut count = 0_u64;
        // SAFETY: reads the eight bytes of an eventfd that does not block.
        unsafe { libc::read(self.wakeup.as_raw_fd(), ptr::from_mut(&mut count).cast(), 8) };
        self.outcomes.try_iter().collect()
    }
}

fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: a new descriptor, which nobody else owns.
    unsafe {
        let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// A thread inherits the mask of the one that starts it.
fn with_signals_blocked<T>(body: impl FnOnce() -> T) -> T {
    // SAFETY: the mask is put back before anything else runs.
    unsafe {
        let mut all: libc::sigset_t = mem::zeroed();
        let mut before: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let answer = body();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut());
        answer
    }
}

async fn serve(
    mut commands: UnboundedReceiver<Command>,
    outcomes: mpsc::Sender<Outcome>,
    wakeup: RawFd,
    mut guard: Guard,
) {
    let mut http = client(&guard);
    while let Some(command) = commands.recv().await {
        match command {
            Command::Guard(changed) => {
                guard = changed;
                http = client(&guard);
            }
            Command::Send(call) => {
                let (guard, http, outcomes) = (guard.clone(), http.clone(), outcomes.clone());
                tokio::spawn(async move {
                    let outcome = attempt(&guard, http.as_ref(), call).await;
                    if outcomes.send(outcome).is_ok() {
                        wake(wakeup);
                    }
                });
            }
        }
    }
}

fn wake(wakeup: RawFd) {
    let one = 1_u64;
    // SAFETY: writes the eight bytes that an eventfd takes. The worker owns it and outlives the sending thread's use: it ends
    // with its process.
    unsafe { libc::write(wakeup, ptr::from_ref(&one).cast(), 8) };
}

fn client(guard: &Guard) -> Result<reqwest::Client, String> {
    let complete = |client: reqwest::ClientBuilder| {
        client
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("Kijko/", env!("CARGO_PKG_VERSION")))
    };
    guard.client(complete).map_err(|error| causes(&error))
}

async fn attempt(guard: &Guard, http: Result<&reqwest::Client, &String>, call: Call) -> Outcome {
    let started_at = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let start = Instant::now();
    let (id, attempt, timeout) = (call.id, call.attempt, call.timeout);
    let answer = match http {
        Ok(http) => match tokio::time::timeout(timeout, fetch(guard, http, call)).await {
            Ok(answer) => answer,
            Err(_) => Err(failure(Reason::TimedOut, "no whole answer in time".into())),
        },
        Err(setup) => Err(failure(Reason::Unreachable, setup.clone())),
    };
    Outcome {
        id,
        attempt,
        started_at: started_at.as_micros() as i64,
        duration: start.elapsed(),
        answer,
    }
}

async fn fetch(guard: &Guard, http: &reqwest::Client, call: Call) -> Result<Answer, Failure> {
    // The setting may have changed since the request was stored.
    let url = guard
        .check(&call.url)
        .map_err(|refused| failure(Reason::AddressRefused, refused.to_string()))?;
    let method = call.method.parse().unwrap_or_default();
    let mut request = http.request(method, url);
    for (name, value) in &call.headers {
        request = request.header(name, value);
    }
    if let Some(body) = call.body {
        request = request.body(body);
    }
    let response = request.send().await.map_err(of_transport)?;
    let mut answer = Answer {
        status: response.status().as_u16(),
        retry_after: retry_after(response.headers(), SystemTime::now()),
        headers: headers(response.headers()),
        ..Answer::default()
    };
    read_body(response, &mut answer).await?;
    Ok(answer)
}

/// The first bytes. What is left is not read: the connection is closed.
async fn read_body(mut response: reqwest::Response, answer: &mut Answer) -> Result<(), Failure> {
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(()),
            Ok(Some(part)) => {
                let room = MAX_BODY - answer.body.len();
                answer.body.extend_from_slice(&part[..part.len().min(room)]);
                if part.len() > room {
                    answer.truncated = true;
                    return Ok(());
                }
            }
            Err(error) => return Err(failure(Reason::Broken, causes(&error.without_url()))),
        }
    }
}

/// Without cookies, which are a session with the receiver.
fn headers(all: &HeaderMap) -> Vec<(String, String)> {
    let kept = all
        .iter()
        .filter(|(name, _)| **name != SET_COOKIE)
        .take(MAX_HEADERS);
    let text = |value: &[u8]| {
        let part = &value[..value.len().min(MAX_HEADER_BYTES)];
        String::from_utf8_lossy(part).replace('\0', "\u{fffd}")
    };
    kept.map(|(name, value)| (name.to_string(), text(value.as_bytes())))
        .collect()
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(text)
        .ok()?
        .duration_since(now)
        .ok()
}

fn of_transport(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let mut cause: Option<&dyn Error> = Some(&error);
    let mut refused = false;
    while let Some(error) = cause {
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        refused |= inner.is_some_and(|inner| inner.is::<Refused>());
        cause = error.source();
    }
    let reason = if refused {
        Reason::AddressRefused
    } else if error.is_timeout() {
        Reason::TimedOut
    } else if error.is_connect() {
        Reason::Unreachable
    } else {
        Reason::Broken
    };
    failure(reason, causes(&error))
}

fn failure(reason: Reason, mut text: String) -> Failure {
    text = text.replace('\0', "\u{fffd}");
    text.truncate(text.floor_char_boundary(MAX_ERROR));
    Failure { reason, text }
}

/// An error with what caused it. reqwest's own texts name only the outermost step.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod unit {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let parse = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            retry_after(&headers, now)
        };
        assert_eq!(parse("120"), Some(Duration::from_secs(120)));
        assert_eq!(
            parse("Sun, 06 Nov 1994 08:50:37 GMT"),
            Some(Duration::from_secs(60))
        );
        assert_eq!(parse("Sun, 06 Nov 1994 08:48:37 GMT"), None);
        assert_eq!(parse("soon"), None);
        assert_eq!(parse("-1"), None);
    }
}

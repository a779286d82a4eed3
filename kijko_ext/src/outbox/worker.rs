//! The worker that sends: a loop on its latch. In each round one short transaction records what has come back and reads what
//! goes out next; no transaction is open while anything is sent.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pgrx::prelude::*;

use super::client::Client;
use super::issuers::Refresh;
use super::outcome::{Call, Failure, Id, Outcome, Reason};
use super::reader::Reader;
use super::request::secret_name;
use super::retry::{self, Next};
use super::schedule::{Limits, Schedule};
use super::sign::{self, Signing};
use super::store::{self, Key, Request, Verdict};
use super::wakeup;
use crate::clock;
use crate::guc;
use crate::pg::random;
use crate::seal;
use crate::worker::launcher::Kind;
use crate::worker::process::{self, attempt};
use crate::worker::tenure::{LEAVE_ROUND, Tenure};

/// A commit wakes the worker, so this is for what has become due, and for prepared transactions.
const MAX_WAIT: Duration = Duration::from_secs(1);
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
/// How often stranded keys and old requests are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kijko_outbox_worker(database: pg_sys::Datum) {
    if let Ok(tenure) = Tenure::begin(Kind::Outbox, database) {
        // What a crash of the server makes it forget is sent again, with the same id.
        process::set_option(c"synchronous_commit", c"off");
        process::plan_by_indexes();
        wakeup::register_worker();
        match Client::start(guc::http::with_guard(Clone::clone)) {
            Ok(client) => Outbox::new(client, tenure).run(),
            Err(error) => log!("kijko outbox: cannot start its thread: {error}"),
        }
        wakeup::set_in_flight(0);
    }
    // SAFETY: ends the process; the launcher decides whether there is another one. What is under way is left behind.
    unsafe { pg_sys::proc_exit(1) };
}

/// What a round has done in its transaction, and holds once that has committed.
#[derive(Default)]
struct Recorded {
    done: Vec<Id>,
    ended: Vec<Key>,
    handed_on: Vec<Key>,
    /// Those of the keys that may go now.
    next: Vec<Id>,
}

struct Outbox {
    client: Client,
    tenure: Tenure,
    schedule: Schedule,
    /// Attempts that have ended and are not written yet. Until they are, their requests count as being sent.
    verdicts: Vec<Verdict>,
    /// How many attempts each request that is being sent may have.
    max_attempts: HashMap<Id, i32>,
    /// Keys whose next request may go.
    keys: HashSet<Key>,
    started: Instant,
    reader: Reader,
    next_housekeeping: Instant,
    issuers: Refresh,
}

impl Outbox {
    fn new(client: Client, tenure: Tenure) -> Self {
        let now = Instant::now();
        Self {
            client,
            tenure,
            schedule: Schedule::default(),
            verdicts: Vec::new(),
            max_attempts: HashMap::new(),
            keys: HashSet::new(),
            started: now,
            reader: Reader::new(),
            next_housekeeping: now,
            issuers: Refresh::new(),
        }
    }

    /// Until the worker has to end.
    fn run(&mut self) {
        let mut pause = Duration::ZERO;
        loop {
            let alive = process::wait_readable(pause.min(LEAVE_ROUND), Some(self.client.wakeup()));
            if self.tenure.end(alive).is_some() || !self.reload() {
                return;
            }
            for outcome in self.client.outcomes() {
                self.ended(outcome);
            }
            pause = match self.round() {
                Ok(true) => self.pause(),
                Ok(false) => return, // its thread has ended
                Err(error) => {
                    wakeup::counts().errors.fetch_add(1, Ordering::Relaxed);
                    self.reader.want_look();
                    log!("kijko outbox: {error}");
                    FAILURE_PAUSE
                }
            };
            wakeup::set_in_flight(self.schedule.in_flight());
        }
    }

    /// False when the client's thread has ended.
    fn reload(&self) -> bool {
        !self.tenure.reloaded || self.client.set_guard(guc::http::with_guard(Clone::clone))
    }

    /// Milliseconds for the schedule.
    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn limits() -> Limits {
        Limits {
            total: guc::http::concurrency(),
            origin: guc::http::origin_concurrency(),
            org: guc::http::org_concurrency(),
        }
    }

    fn pause(&self) -> Duration {
        let now = Instant::now();
        let until = |then: Instant| then.saturating_duration_since(now);
        let mut pause = until(self.next_housekeeping).min(MAX_WAIT);
        pause = pause.min(until(self.issuers.next()));
        let (limits, present) = (Self::limits(), self.now());
        if self.schedule.has_room(limits) {
            pause = pause.min(until(self.reader.next(&self.schedule, limits, present)));
        }
        if let Some(end) = self.schedule.next_at(present) {
            pause = pause.min(Duration::from_millis(end.saturating_sub(present)));
        }
        pause.max(Duration::from_millis(1))
    }

    fn ended(&mut self, outcome: Outcome) {
        let counts = wakeup::counts();
        let max_attempts = self.max_attempts.remove(&outcome.id).unwrap_or(1);
        let next = retry::next(&outcome, max_attempts, random::unit());
        let counter = match next {
            Next::Succeeded => &counts.succeeded,
            Next::Dead(_) => &counts.dead,
            Next::Retry(wait, _) => {
                self.reader.is_due_in(wait);
                &counts.failed
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(fault) = outcome.fault() {
            counts.add_fault(fault);
        }
        self.verdicts.push(Verdict { outcome, next });
    }

    /// Records what has ended, and sends what is next. Memory changes only after the commit of what it follows from.
    fn round(&mut self) -> Result<bool, String> {
        let housekeeping = Instant::now() >= self.next_housekeeping;
        if housekeeping || !self.verdicts.is_empty() || !self.keys.is_empty() {
            let recorded = attempt(|| self.record(housekeeping))?;
            self.apply(recorded);
            self.issuers.soon();
            if housekeeping {
                self.next_housekeeping = Instant::now() + HOUSEKEEPING;
            }
        }
        self.refresh_issuers();
        self.reader.listen();
        let mut chosen = Vec::new();
        let found = attempt(|| self.find(&mut chosen));
        let requests = match found {
            Ok(requests) => requests,
            Err(error) => {
                self.not_sent(&chosen);
                return Err(error);
            }
        };
        let found: HashSet<_> = requests.iter().map(|request| request.id).collect();
        chosen.retain(|id| !found.contains(id));
        self.not_sent(&chosen);
        Ok(requests.into_iter().all(|request| self.send(request)))
    }

    /// In a transaction of its own, so that what fails there stops nothing that is sent.
    fn refresh_issuers(&mut self) {
        if !self.issuers.is_due() {
            return;
        }
        let wanted = wakeup::take_wanted_issuers();
        if let Err(error) = attempt(|| Refresh::advance(&wanted)) {
            log!("kijko outbox: issuers could not be refreshed: {error}");
        }
        self.issuers.done();
    }

    fn record(&self, housekeeping: bool) -> Recorded {
        let mut recorded = Recorded::default();
        if !store::is_installed() {
            recorded.done = self
                .verdicts
                .iter()
                .map(|verdict| verdict.outcome.id)
                .collect();
            return recorded;
        }
        if !self.verdicts.is_empty() {
            (recorded.done, recorded.ended) = store::record(&self.verdicts);
        }
        if housekeeping {
            store::purge(guc::http::retention());
            recorded.ended.extend(store::stranded());
        }
        let keys: HashSet<_> = self.keys.iter().chain(&recorded.ended).cloned().collect();
        if !keys.is_empty() {
            (recorded.handed_on, recorded.next) = store::hand_on(&Vec::from_iter(keys));
        }
        recorded
    }

    fn apply(&mut self, recorded: Recorded) {
        let (now, done) = (self.now(), HashSet::<Id>::from_iter(recorded.done));
        let (done, left): (Vec<_>, Vec<_>) = self
            .verdicts
            .drain(..)
            .partition(|verdict| done.contains(&verdict.outcome.id));
        self.verdicts = left;
        for verdict in done {
            let healthy = is_healthy(&verdict.outcome);
            self.schedule.ended(&verdict.outcome.id, healthy, now);
        }
        self.keys.extend(recorded.ended);
        for key in &recorded.handed_on {
            self.keys.remove(key);
        }
        self.reader.add(recorded.next);
    }

    /// Those that are sent next; `chosen` has also those that are not there any more.
    fn find(&mut self, chosen: &mut Vec<Id>) -> Vec<Request> {
        if !store::is_installed() {
            return Vec::new();
        }
        let (limits, now) = (Self::limits(), self.now());
        if self.schedule.has_room(limits) {
            self.reader.read(&mut self.schedule, limits, now);
        }
        *chosen = self.schedule.choose(limits, now);
        if chosen.is_empty() {
            return Vec::new();
        }
        store::requests(chosen)
    }

    fn not_sent(&mut self, ids: &[Id]) {
        let now = self.now();
        for id in ids {
            self.schedule.ended(id, None, now);
        }
    }

    /// False when the client's thread has ended.
    fn send(&mut self, request: Request) -> bool {
        self.max_attempts.insert(request.id, request.max_attempts);
        let (id, attempt) = (request.id, request.attempts + 1);
        let failure = if request.is_expired {
            Failure {
                reason: Reason::Expired,
                text: "its time was over before this attempt".to_owned(),
            }
        } else if let Some(call) = call(request) {
            return self.client.send(call);
        } else {
            Failure {
                reason: Reason::SecretUnavailable,
                text: "a secret is missing, or cannot be unsealed or used".to_owned(),
            }
        };
        self.ended(Outcome {
            id,
            attempt,
            started_at: clock::unix_micros(clock::real_micros()),
            duration: Duration::ZERO,
            answer: Err(failure),
        });
        true
    }
}

/// Whether an outcome says that the receiver works. None: it says nothing about it.
fn is_healthy(outcome: &Outcome) -> Option<bool> {
    match &outcome.answer {
        Ok(answer) => Some(answer.status < 500 && answer.status != 429),
        Err(failure) if matches!(failure.reason, Reason::Expired | Reason::SecretUnavailable) => {
            None
        }
        Err(_) => Some(false),
    }
}

/// Puts in the secrets and signs. None when a secret is missing or is none.
fn call(request: Request) -> Option<Call> {
    let id = pgrx::Uuid::from_bytes(request.id).to_string();
    let secret = |name: &str| {
        let secret = request.secrets.get(name)?;
        seal::open(secret["sealed"].as_str()?, secret["context"].as_str()?)
    };
    let mut headers = Vec::new();
    for (name, value) in request.headers.as_object()? {
        let value = match secret_name(value) {
            Some(name) => secret(name)?.to_string(),
            None => value.as_str()?.to_owned(),
        };
        headers.push((name.clone(), value));
    }
    let has = |headers: &[(String, String)], name: &str| {
        headers
            .iter()
            .any(|(given, _)| given.eq_ignore_ascii_case(name))
    };
    if let Some(signing) = request.signing.as_ref().and_then(Signing::parse) {
        let secrets = signing.secrets.iter().map(|name| secret(name));
        let secrets: Vec<_> = secrets.collect::<Option<_>>()?;
        let now = clock::unix_seconds(clock::real_micros());
        let body = request.body.as_deref().unwrap_or_default();
        let texts = secrets.iter().map(|secret| secret.as_str());
        let signature = sign::signatures(&signing.id, now, body, texts)?;
        headers.push(("webhook-id".into(), signing.id));
        headers.push(("webhook-timestamp".into(), now.to_string()));
        headers.push(("webhook-signature".into(), signature));
    } else if !has(&headers, "idempotency-key") {
        headers.push(("idempotency-key".into(), id));
    }
    if request.body.is_some() && !has(&headers, "content-type") {
        headers.push(("content-type".into(), "application/json".into()));
    }
    Some(Call {
        id: request.id,
        attempt: request.attempts + 1,
        method: request.method,
        url: request.url,
        headers,
        body: request.body,
        timeout: request.timeout,
    })
}

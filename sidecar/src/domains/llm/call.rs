//! A call, until it is settled, in a task of its own: it goes on to its end when the client hangs up.
//!
//! 1. The API has opened it, or its ticket is opened: from here on it may cost something, and is settled.
//! 2. The targets are tried in order, each with its retries. Before an attempt that the hold does not cover, it is raised.
//! 3. An answer begins with its first piece of substance. From then on no other target can answer.
//! 4. The client gets the last piece while the true use is being settled. A job waits a moment for that.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kijko_core::{backoff::Backoff, error::Error};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    answer::{self, DONE, Heading},
    attempt::{Attempt, COUNT_WAIT, Deadlines, late},
    error::ApiError,
    failure::Failure,
    gateway::Gateway,
    hold::{HELD_FIRST, Refused},
    images,
    opening::Grant,
    output::{Output, Reply},
    pseudonym,
    record::{End, Ended},
    request::Request,
    span::{self, Past, Place},
    store::{Kind, Opened, Target},
    upstreams::Times,
};
use crate::llm::{Endpoint, LlmError, LlmFault};

/// How long an answer that has begun may go on after the time budget. Maintenance waits longer before it settles a lost call.
const MAX_ANSWER: Duration = Duration::from_secs(540);
/// The last pieces must have gone to the client by then.
const LAST_PIECES: Duration = Duration::from_secs(5);
/// An attempt needs that much time to be worth it.
const MIN_ATTEMPT: Duration = Duration::from_millis(100);
/// How long a settlement keeps the places of its call, and an answer that waits for it.
const SETTLE_WAIT: Duration = Duration::from_secs(2);

/// A call that was let through.
pub(super) struct Call {
    pub gateway: Arc<Gateway>,
    pub request: Request,
    /// Its place in a trace.
    pub place: Place,
    /// Cancelled when the client hangs up.
    pub gone: CancellationToken,
    /// The room that the request takes.
    pub kept: OwnedSemaphorePermit,
    /// Whether the answer waits a moment until the call is settled.
    pub settles_first: bool,
}

/// What goes on while a call runs.
struct State {
    attempt: Attempt,
    /// The index of its target.
    target: i32,
    attempts: u32,
    /// When the first piece of the answer came, from the start of the call.
    first_token: Option<Duration>,
    past: Past,
}

impl Call {
    /// Runs to the end.
    pub(super) async fn run(self, grant: Grant, reply: oneshot::Sender<Reply>) {
        let start = Instant::now();
        let running = (self.gateway.series.running(), &self.kept);
        let opened = match self.open(grant).await {
            Ok(opened) => opened,
            Err(error) => return drop(reply.send(Reply::Failed(Box::new(error)))),
        };
        let settler = &self.gateway.settler;
        let unsettled = settler.opened(opened.call_id, opened.org_id);
        let heading = Heading::new(opened.call_id, self.request.model());
        let mut output = match &self.request {
            Request::Chat(chat) if chat.stream => {
                let patience = Duration::from_secs(opened.idle_seconds);
                Output::stream(reply, heading.clone(), chat.include_usage, patience)
            }
            _ => Output::whole(reply),
        };
        let mut state = State {
            attempt: Attempt::new(Kind::Echo),
            target: HELD_FIRST,
            attempts: 0,
            first_token: None,
            past: Past::default(),
        };
        let said = output.said.clone();
        let last = start + Duration::from_secs(opened.time_budget_seconds) + MAX_ANSWER;
        let attempts = self.attempts(&opened, &heading, &mut state, &mut output, start);
        let end = tokio::select! {
            // An answer that has come to its end is one.
            biased;
            ended = attempts => match ended {
                Ok(()) => End::Answered,
                Err(Failure::ClientGone) => End::Cut("client_closed_request"),
                Err(failure) => End::Failed(failure.error()),
            },
            () = self.hung_up(&said) => End::Cut("client_closed_request"),
            () = self.gateway.cut.cancelled() => End::Cut("shutdown"),
            // Whoever it is that does not go on.
            () = tokio::time::sleep_until(last) => End::Failed(Failure::from(late()).error()),
        };
        let ended = Ended {
            request: &self.request,
            opened: &opened,
            attempt: &state.attempt,
            target: state.target,
            attempts: state.attempts,
            first_token: state.first_token,
            output: &output,
            total: start.elapsed(),
        };
        let usage = ended.usage(&end);
        let tracer = &self.gateway.tracer;
        let span = tracer.is_on().then(|| {
            let past = std::mem::take(&mut state.past);
            span::of_call(
                &ended,
                &end,
                self.place,
                past,
                tracer,
                &self.gateway.upstreams,
            )
        });
        let outcome = match &end {
            End::Answered => "succeeded",
            End::Failed(_) => "failed",
            End::Cut(_) => "cancelled",
        };
        let kind = self.request.kind();
        let series = &self.gateway.series;
        series.ended(kind, outcome, start.elapsed(), state.first_token);
        drop(running);
        let settling = timeout(SETTLE_WAIT, unsettled.settle(usage, span));
        // A client that does not read them has all but these.
        let finish = timeout(LAST_PIECES, self.finish(end, state, output, &heading));
        // Until both have ended it keeps its room and places: calls do not outrun their settlements.
        let _ = match self.settles_first {
            true => (settling.await, finish.await),
            false => tokio::join!(settling, finish),
        };
    }

    /// Until the client has hung up. When all was said, the vendor has a moment more to count it.
    async fn hung_up(&self, said: &AtomicBool) {
        self.gone.cancelled().await;
        if said.load(Ordering::Relaxed) {
            tokio::time::sleep(COUNT_WAIT).await;
        }
    }

    async fn open(&self, grant: Grant) -> Result<Opened, ApiError> {
        let ticket = match grant {
            Grant::Opened(opened) => return Ok(*opened),
            Grant::Ticket(ticket) => ticket,
        };
        if self.gone.is_cancelled() {
            return Err(Failure::ClientGone.error());
        }
        self.gateway.redeem(ticket).await
    }

    async fn attempts(
        &self,
        opened: &Opened,
        heading: &Heading,
        state: &mut State,
        output: &mut Output,
        start: Instant,
    ) -> Result<(), Failure> {
        let gateway = &self.gateway;
        let budget_end = start + Duration::from_secs(opened.time_budget_seconds);
        let mut last = Failure::Vendor(LlmError::new(
            LlmFault::ModelNotAvailable,
            "no provider is there for this model",
        ));
        for target in self.in_order(&opened.targets) {
            let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
            for attempt in 0..=opened.retries {
                match gateway
                    .hold(
                        opened,
                        target,
                        state.attempts,
                        (state.target, &state.attempt),
                    )
                    .await
                {
                    Ok(()) => {}
                    // Nothing was called yet, and what is held is held for the first target: another one may fit.
                    Err(Refused::NoRoom(failure)) if state.attempts == 0 => {
                        last = failure;
                        break;
                    }
                    Err(Refused::NoRoom(failure) | Refused::Ended(failure)) => return Err(failure),
                }
                // Whoever has gone does not begin another attempt.
                if self.gone.is_cancelled() {
                    return Err(Failure::ClientGone);
                }
                if state.attempts > 0 {
                    let held = opened.input_tokens_of(state.target);
                    state.past.add(state.attempt.spent(held));
                }
                state.attempts += 1;
                state.target = target.index;
                state.attempt = Attempt::new(target.kind);
                output.restart(!output.is_stream() || opened.record_content);
                let since = start.elapsed();
                let outcome = self
                    .attempt(opened, heading, target, state, output, budget_end)
                    .await;
                let first_token = state.attempt.first_token;
                state.first_token = first_token.map(|first| since + first);
                self.note(target, &outcome);
                if gateway.tracer.is_on() {
                    state.past.note(target, span::outcome(&outcome));
                }
                let Err(failure) = outcome else {
                    return Ok(());
                };
                if output.has_begun() || !(failure.may_pass() || failure.may_fall_back()) {
                    return Err(failure);
                }
                let wait = match &failure {
                    Failure::Vendor(error) => error.retry_after,
                    _ => None,
                };
                let wait = wait.unwrap_or_else(|| backoff.next_delay());
                let again = failure.may_pass() && attempt < opened.retries;
                let in_time = Instant::now() + wait + MIN_ATTEMPT < budget_end;
                let passes = failure.may_fall_back();
                last = failure;
                if again && in_time {
                    tokio::time::sleep(wait).await;
                    continue;
                }
                if !passes || Instant::now() + MIN_ATTEMPT >= budget_end {
                    return Err(last);
                }
                break;
            }
        }
        Err(last)
    }

    /// As the route has them, but those that asked for a pause come last.
    fn in_order<'a>(&self, targets: &'a [Target]) -> Vec<&'a Target> {
        let mut targets: Vec<_> = targets.iter().collect();
        let (pauses, now) = (&self.gateway.pauses, Instant::now());
        targets.sort_by_key(|target| pauses.is_paused(&target.provider_key(), now));
        targets
    }

    async fn attempt(
        &self,
        opened: &Opened,
        heading: &Heading,
        target: &Target,
        state: &mut State,
        output: &mut Output,
        budget_end: Instant,
    ) -> Result<(), Failure> {
        let gateway = &self.gateway;
        let most = target.max_concurrency.unwrap_or(gateway.max_of_provider);
        let slot = gateway.providers.take(&target.provider_key(), most);
        let _slot = slot.ok_or(Failure::Busy)?;
        let first = Duration::from_secs(opened.first_token_seconds);
        let end = budget_end + MAX_ANSWER;
        let deadlines = Deadlines {
            first: budget_end.min(Instant::now() + first),
            end,
        };
        let times = Times {
            idle: Duration::from_secs(opened.idle_seconds),
            total: end.saturating_duration_since(Instant::now()),
        };
        let route = gateway.upstreams.route(target, times);
        let attempt = &mut state.attempt;
        let model = target.model.as_str();
        match &self.request {
            Request::Chat(chat) => {
                // An answer that comes whole says nothing before its end.
                let whole = Deadlines {
                    first: if chat.stream {
                        deadlines.first
                    } else {
                        budget_end
                    },
                    end,
                };
                let limits = match target.kind {
                    Kind::OpenAi => whole,
                    _ => deadlines,
                };
                attempt
                    .chat(chat, (opened, target), route, output, limits, heading)
                    .await
            }
            Request::Embeddings(request) => {
                let route = route?;
                let mut body = request.body(route.vendor, model).map_err(Failure::Unfit)?;
                pseudonym::replace(&mut body, target, opened.org_id);
                let endpoint = Endpoint::Embeddings;
                let given = attempt
                    .json(&route, endpoint, model, &body, budget_end)
                    .await?;
                let reader = &attempt.reader;
                output.whole = Some(request.answer(route.vendor, &given, model, reader)?);
                attempt.done();
                Ok(())
            }
            Request::Images(request) => {
                let route = route?;
                let mut body = request.body(route.vendor, model).map_err(Failure::Unfit)?;
                pseudonym::replace(&mut body, target, opened.org_id);
                let endpoint = Endpoint::Images;
                let given = attempt
                    .json(&route, endpoint, model, &body, budget_end)
                    .await?;
                let given = images::answer(route.vendor, given);
                attempt.images = images::count(&given, &mut attempt.reader.usage)?;
                output.whole = Some(given);
                attempt.done();
                Ok(())
            }
        }
    }

    /// What an attempt says of its provider.
    fn note(&self, target: &Target, outcome: &Result<(), Failure>) {
        let (pauses, provider) = (&self.gateway.pauses, target.provider_key());
        match outcome {
            Ok(()) => pauses.end(&provider),
            Err(Failure::Vendor(error)) if error.fault.is_outage() => {
                pauses.begin(&provider, error.retry_after, Instant::now());
            }
            Err(_) => {}
        }
        let outcome = span::outcome(outcome);
        self.gateway.series.attempted(target.kind.name(), outcome);
    }

    /// The last piece for the client.
    async fn finish(&self, end: End, state: State, mut output: Output, heading: &Heading) {
        let reader = state.attempt.reader;
        let error = match end {
            End::Answered if output.is_stream() => {
                let usage = answer::usage(&reader.usage, reader.reported.as_ref());
                if let Some(chunk) = output.usage_chunk(&reader, usage) {
                    let _ = output.push(chunk).await;
                }
                let _ = output.push(DONE).await;
                return;
            }
            End::Answered => {
                let usage = answer::usage(&reader.usage, reader.reported.as_ref());
                let assembly = output.assembly.take();
                let whole = output.whole.take().unwrap_or_else(|| {
                    let mut heading = heading.clone();
                    if let Some(model) = &reader.model {
                        heading.model.clone_from(model);
                    }
                    let choices = assembly.map(|it| it.choices()).unwrap_or_default();
                    heading.completion(&reader, choices, usage)
                });
                output.answer(Reply::Whole(whole));
                return;
            }
            End::Failed(error) => error,
            End::Cut("shutdown") => {
                let cause = "the sidecar stops".to_owned();
                ApiError::from(Error::Unavailable { cause })
            }
            End::Cut(_) => return,
        };
        if output.has_begun() {
            // The event is the last one: clients take a [DONE] after it for a good end.
            let _ = output.push(answer::error_event(&error)).await;
        } else {
            output.answer(Reply::Failed(Box::new(error)));
        }
    }
}

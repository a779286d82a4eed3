//! Calls that end before, or without, what they were opened for: clients that have gone, answers that were lost, settlements that wait.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::BoxFuture;
use kijko_core::{db::DbError, secret::Secret, telemetry::traces::Tracer};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{
    opening::{completion, opened, refused},
    vendor::{Vendor, whole},
    *,
};
use crate::domains::llm::{
    call::Call,
    chat::Chat,
    opening::Grant,
    request::Request as Asking,
    settlement::Settler,
    span::Place,
    store::{Calls, KeySet, Opened, Raised, Settled, SettledCalls, Spent},
};

/// A stack whose API is asked for each answer, and a vendor.
async fn answering() -> (Vendor, Stack) {
    let vendor = Vendor::new(vec![whole(&completion())]).await;
    let stack = Stack::new(&[("openai", &vendor.url)]).await;
    (vendor, stack)
}

async fn until(what: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !what() {
        assert!(Instant::now() < end, "it does not happen");
        sleep(Duration::from_millis(5)).await;
    }
}

fn fails(stack: &Stack) {
    let failed = (500, json!({"code": "57014"}));
    stack.answers.lock().unwrap().push(failed);
}

#[tokio::test]
async fn a_lost_answer_is_released_at_once_and_by_a_process_that_stops() {
    let (vendor, stack) = answering().await;
    fails(&stack);
    // The database is away when it looks first.
    *stack.store.failures.lock().unwrap() = 3;
    assert_eq!(chat(&stack, &question(json!({}))).await.status, 503);
    assert!(!stack.gateway.tasks.is_empty());
    let start = Instant::now();
    let released = stack.settled().await;
    assert_eq!(
        (&released["error_code"], &released["completion_tokens"]),
        (&json!("not_sent"), &json!(0))
    );
    assert!(start.elapsed() < Duration::from_secs(5));
    until(|| stack.gateway.tasks.is_empty()).await;
    // A process that stops waits for it, and does not look again later.
    let held = stack.store.holds_settlements.clone().lock_owned().await;
    fails(&stack);
    assert_eq!(chat(&stack, &question(json!({}))).await.status, 503);
    stack.stop().cancel();
    until(|| stack.gateway.cut.is_cancelled()).await;
    assert!(!stack.gateway.tasks.is_empty());
    drop(held);
    until(|| stack.gateway.tasks.is_empty()).await;
    assert_eq!(stack.store.settled.lock().unwrap().len(), 2);
    assert_eq!(vendor.count(), 0);
}

/// A database in which no call is open.
#[derive(Default)]
struct Nothing {
    looks: Mutex<usize>,
}

impl Calls for Nothing {
    fn pass(&self) -> BoxFuture<'_, Result<Secret, DbError>> {
        unreachable!("not asked for")
    }

    fn key(&self, _: Uuid) -> BoxFuture<'_, Result<Option<KeySet>, DbError>> {
        unreachable!("not asked for")
    }

    fn is_calling(&self, _: Uuid) -> BoxFuture<'_, Result<bool, DbError>> {
        unreachable!("not asked for")
    }

    fn open(&self, _: String) -> BoxFuture<'_, Result<Option<Opened>, DbError>> {
        unreachable!("not asked for")
    }

    fn raise(&self, _: Uuid, _: i32, _: Spent) -> BoxFuture<'_, Result<Option<Raised>, DbError>> {
        unreachable!("not asked for")
    }

    fn settle(&self, _: Uuid, _: Value) -> BoxFuture<'_, Result<Option<Settled>, DbError>> {
        unreachable!("only what has content, and what failed with others")
    }

    fn settle_many(
        &self,
        calls: Vec<(Uuid, Value)>,
    ) -> BoxFuture<'_, Result<SettledCalls, DbError>> {
        *self.looks.lock().unwrap() += calls.len();
        Box::pin(async move { Ok(calls.into_iter().map(|(call, _)| (call, None)).collect()) })
    }
}

#[tokio::test]
async fn a_call_that_was_never_opened_is_looked_for_until_the_process_stops() {
    let nothing = Arc::new(Nothing::default());
    let (tasks, cut) = (TaskTracker::new(), CancellationToken::new());
    let (series, tracer) = (Arc::default(), Tracer::off());
    let settler = Settler::new(nothing.clone(), series, tracer, tasks.clone(), cut.clone());
    let organization = Uuid::from_u128(7);
    let places = Arc::new(());
    drop(settler.asked(Uuid::new_v4(), organization, places.clone()));
    // Its client has gone: the place is kept, and a refusal waits, until it has been looked for.
    assert_eq!(Arc::strong_count(&places), 2);
    assert!(settler.outstanding.of(organization).is_some());
    until(|| Arc::strong_count(&places) == 1).await;
    assert!(settler.outstanding.of(organization).is_none());
    assert_eq!((*nothing.looks.lock().unwrap(), tasks.len()), (1, 1));
    cut.cancel();
    until(|| tasks.is_empty()).await;
    assert_eq!(*nothing.looks.lock().unwrap(), 2);
}

#[tokio::test]
async fn whoever_has_gone_before_the_attempt_calls_no_vendor_and_pays_nothing() {
    let (vendor, stack) = answering().await;
    let gone = CancellationToken::new();
    gone.cancel();
    let body = question(json!({})).to_string();
    let (kept, _share) = stack
        .gateway
        .bodies
        .enter(Uuid::from_u128(7))
        .unwrap()
        .into_permits();
    let call = Call {
        gateway: stack.gateway.clone(),
        request: Chat::read(body.as_bytes()).map(Asking::Chat).unwrap(),
        place: Place::of(&HeaderMap::new()),
        gone,
        kept,
        settles_first: true,
    };
    let opened = stack.store.opened.lock().unwrap().clone().unwrap();
    let (reply, _answer) = oneshot::channel();
    call.run(Grant::Opened(Box::new(opened)), reply).await;
    let settled = stack.settled().await;
    assert_eq!(settled["error_code"], "client_closed_request");
    assert_eq!(
        (&settled["prompt_tokens"], &settled["completion_tokens"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(vendor.count(), 0);
}

#[tokio::test]
async fn a_call_keeps_its_place_until_it_is_settled_or_two_seconds_have_passed() {
    let (_vendor, stack) = answering().await;
    for waits_long in [false, true] {
        let held = stack.store.holds_settlements.clone().lock_owned().await;
        assert_eq!(chat(&stack, &question(json!({}))).await.status, 200);
        let (start, mut held) = (Instant::now(), Some(held));
        sleep(Duration::from_millis(50)).await;
        assert!(!stack.gateway.all.is_empty());
        if !waits_long {
            held.take();
        }
        until(|| stack.gateway.all.is_empty()).await;
        assert_eq!(start.elapsed() > Duration::from_millis(1_900), waits_long);
    }
}

#[tokio::test]
async fn a_refusal_is_asked_for_again_while_another_process_may_settle() {
    let (vendor, stack) = answering().await;
    let body = question(json!({}));
    let quota = |resource: &str| {
        let body = json!({"code": "quota_exceeded", "message": "llm_tokens", "x-ratelimit-resource": resource});
        (429, body)
    };
    for (calling, refusal, asked) in [
        (false, refused("budget_exceeded"), 1),
        (true, refused("budget_exceeded"), 2),
        (true, quota("llm_tokens"), 2),
        (true, quota("api_requests"), 1),
    ] {
        *stack.store.is_calling.lock().unwrap() = calling;
        *stack.answers.lock().unwrap() = vec![opened(&vendor.url, 7), refusal];
        let before = stack.asked.lock().unwrap().len();
        let got = chat(&stack, &body).await;
        assert_eq!(stack.asked.lock().unwrap().len() - before, asked);
        assert_eq!(got.status, if asked == 2 { 200 } else { 429 });
    }
}

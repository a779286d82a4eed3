use super::*;
use crate::protocol::{Body, Version};

fn key(private: bool) -> TopicKey {
    TopicKey::new("room", private)
}

fn hub() -> Hub {
    Hub::new(Relay::alone())
}

fn member(socket: u64) -> (Member, Inbox) {
    let (outbox, inbox) = Outbox::new(8, 1 << 10);
    let member = Member {
        id: MemberId { socket, join: 0 },
        join_ref: Some("1".into()),
        version: Version::V2,
        outbox,
        hears_broadcasts: true,
        hears_presence: true,
        on_me: false,
        replay: None,
        is_behind: false,
    };
    (member, inbox)
}

fn message() -> Arc<Broadcast> {
    let body = Body::Json(serde_json::from_str("1").unwrap());
    Arc::new(Broadcast::new("room", "e".to_owned(), body, None))
}

fn stored(id: Uuid, look: u64) -> Arc<Broadcast> {
    let body = Body::Json(serde_json::from_str("1").unwrap());
    Arc::new(Broadcast::stored(
        "room",
        "e".to_owned(),
        body,
        id,
        Some(look),
    ))
}

#[test]
fn a_broadcast_reaches_the_others_of_its_namespace() {
    let hub = hub();
    let ((a, mut to_a), (b, mut to_b), (c, mut to_c)) = (member(1), member(2), member(3));
    let from = a.id;
    hub.join(&key(false), a);
    hub.join(&key(false), b);
    hub.join(&key(true), c);
    hub.broadcast_everywhere(&key(false), &message(), Some(from));
    assert!(to_b.try_recv().is_ok());
    assert!(to_a.try_recv().is_err() && to_c.try_recv().is_err());
    assert_eq!(
        hub.broadcast(&TopicKey::new("elsewhere", false), &message()),
        0
    );
}

#[test]
fn a_topic_goes_with_its_last_member() {
    let hub = hub();
    let ((a, _to_a), (b, _to_b)) = (member(1), member(2));
    let ids = (a.id, b.id);
    hub.join(&key(false), a);
    hub.join(&key(false), b);
    hub.leave(&key(false), ids.0);
    assert_eq!(hub.topics(), 1);
    hub.leave(&key(false), ids.0);
    hub.leave(&key(false), ids.1);
    assert_eq!(hub.topics(), 0);
}

#[test]
fn a_member_that_does_not_read_overflows_once_and_stops_nobody() {
    let hub = hub();
    let ((slow, to_slow), (quick, mut to_quick)) = (member(1), member(2));
    let flag = slow.outbox.clone();
    hub.join(&key(false), slow);
    hub.join(&key(false), quick);
    for _ in 0..20 {
        hub.broadcast(&key(false), &message());
        assert!(to_quick.try_recv().is_ok());
    }
    assert_eq!(to_slow.waiting(), 8);
    assert!(flag.overflowed());
}

#[test]
fn a_member_has_room_for_some_bytes() {
    let (outbox, mut inbox) = Outbox::new(8, 100);
    let frame = |bytes: usize| Outgoing::Frame("x".repeat(bytes).into());
    outbox.send(frame(200));
    assert!(!outbox.overflowed() && outbox.is_crowded());
    assert!(inbox.try_recv().is_ok() && !outbox.is_crowded());
    outbox.send(frame(50));
    outbox.send(frame(51));
    assert!(outbox.overflowed());
}

#[test]
fn live_messages_during_a_replay_are_bounded() {
    let hub = hub();
    let (mut late, _inbox) = member(1);
    late.replay = Some(Replaying::begin());
    let outbox = late.outbox.clone();
    hub.join(&key(true), late);
    for _ in 0..8 {
        hub.broadcast(&key(true), &message());
    }
    assert!(!outbox.overflowed());
    hub.broadcast(&key(true), &message());
    assert!(outbox.overflowed());
}

#[test]
fn what_waits_of_a_shut_membership_is_not_sent() {
    let (outbox, mut inbox) = Outbox::new(8, 100);
    let (ended, other) = (outbox.branch(), outbox.branch());
    ended.send(Outgoing::Frame("secret".into()));
    other.send(Outgoing::Frame("fine".into()));
    ended.shut();
    let Ok(Outgoing::Frame(frame)) = inbox.try_recv() else {
        panic!("nothing")
    };
    assert_eq!(frame.to_text().unwrap(), "fine");
    assert!(inbox.try_recv().is_err() && !outbox.is_crowded());
}

#[test]
fn what_was_replayed_does_not_come_again() {
    let hub = hub();
    let (mut late, mut inbox) = member(1);
    late.replay = Some(Replaying::begin());
    let id = late.id;
    let (seen, new) = (Uuid::new_v4(), Uuid::new_v4());
    let topic = hub.join(&key(true), late);
    let look = hub.begin_look();
    hub.broadcast(&key(true), &stored(seen, look));
    hub.broadcast(&key(true), &stored(new, look));
    assert!(inbox.try_recv().is_err(), "held back");
    hub.end_replay(&topic, id, HashSet::from([seen]));
    assert!(inbox.try_recv().is_ok() && inbox.try_recv().is_err());
    hub.broadcast(&key(true), &stored(seen, hub.begin_look()));
    assert!(inbox.try_recv().is_err(), "the replay had read further");
    hub.broadcast(&key(true), &stored(Uuid::new_v4(), hub.begin_look()));
    assert!(inbox.try_recv().is_ok());
}

#[test]
fn presence_elsewhere_keeps_a_topic() {
    let hub = hub();
    let remote = MemberId {
        socket: 7 << 40,
        join: 1,
    };
    let meta = Meta::new("ada", &serde_json::from_str::<Box<RawValue>>("{}").unwrap());
    hub.track_remote(&key(true), remote, meta);
    let (here, mut inbox) = member(1);
    let id = here.id;
    let topic = hub.join(&key(true), here);
    topic.send_presence_state("room", id);
    let Ok(Outgoing::Frame(frame)) = inbox.try_recv() else {
        panic!("no state")
    };
    assert!(frame.to_text().unwrap().contains(r#""ada""#));
    hub.leave(&key(true), id);
    assert_eq!(hub.topics(), 1);
    hub.untrack_remote(&key(true), remote);
    assert_eq!(hub.topics(), 0);
}

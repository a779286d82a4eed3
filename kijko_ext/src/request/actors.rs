//! Whose the latest requests were, in shared memory: a ring whose oldest entry makes room for the next one.
//!
//! The log of the proxy has the route, the status and the time of each request, and cannot know its caller. Before a request
//! runs, its caller is noted here under the id that the proxy gave it. `kijko.request_actors()` finds the callers of the requests
//! that are read from the log a moment later. Nothing is written to a table, so a refused or READ ONLY request has an entry too.
//! A restart of the server loses the entries: those requests then have no caller.

use std::collections::HashSet;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};

use pgrx::Uuid;
use pgrx::prelude::*;

use crate::shmem::Region;
use crate::shmem::set_associative::{AtomicKey, Key, key_of_uuid, own_database, uuid_of_key};
use crate::{claims, guc, headers, trust};

/// Only the proxy sets it: a client's own request id may be anybody's.
const HEADER: &str = "x-kijko-request";

pub const SHMEM_REGION: Region = Region {
    name: c"kijko request actors",
    size: || size_of::<Header>() + guc::request_actor_slots() * size_of::<Slot>(),
    locks: 0,
    attach: |start, _| START.store(start, Ordering::Relaxed),
};

/// Set in the postmaster and inherited by every process that it forks.
static START: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

#[repr(C, align(64))]
struct Header {
    noted: AtomicU64,
}

/// The caller of a request. A kind of `KINDS`; the others are null where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    pub kind: &'static str,
    pub user: Option<[u8; 16]>,
    pub api_key: Option<[u8; 16]>,
    pub organization: Option<[u8; 16]>,
}

/// As `kijko.actor()` names them. Their places are their numbers in shared memory.
const KINDS: [&str; 7] = [
    "none",
    "user",
    "personal_key",
    "service_key",
    "publishable_key",
    "service",
    "anonymous",
];

/// All zero is an empty slot. Odd versions: a backend is writing it.
#[repr(C)]
#[derive(Default)]
struct Slot {
    version: AtomicU64,
    database: AtomicU64,
    kind: AtomicU64,
    request: AtomicKey,
    user: AtomicKey,
    api_key: AtomicKey,
    organization: AtomicKey,
}

impl Slot {
    /// Leaves an entry alone that another backend is writing: the ring went once around meanwhile.
    fn write(&self, database: u64, request: Key, actor: &Actor) {
        let version = self.version.load(Ordering::Relaxed);
        let taken = version.is_multiple_of(2)
            && self
                .version
                .compare_exchange(version, version + 1, Ordering::Acquire, Ordering::Relaxed)
                .is_ok();
        if !taken {
            return;
        }
        fence(Ordering::Release);
        let kind = KINDS.iter().position(|kind| *kind == actor.kind);
        self.database.store(database, Ordering::Relaxed);
        self.kind
            .store(kind.unwrap_or_default() as u64, Ordering::Relaxed);
        self.request.store(request);
        for (place, id) in [
            (&self.user, actor.user),
            (&self.api_key, actor.api_key),
            (&self.organization, actor.organization),
        ] {
            place.store(id.map_or([0; 2], |id| key_of_uuid(&id)));
        }
        self.version.store(version + 2, Ordering::Release);
    }

    /// None if it was written meanwhile.
    fn read(&self) -> Option<(u64, Key, Actor)> {
        let version = self.version.load(Ordering::Acquire);
        let id = |place: &AtomicKey| {
            Some(place.load())
                .filter(|key| *key != [0; 2])
                .map(uuid_of_key)
        };
        let database = self.database.load(Ordering::Relaxed);
        let request = self.request.load();
        let kind = self.kind.load(Ordering::Relaxed) as usize;
        let actor = Actor {
            kind: KINDS.get(kind).copied()?,
            user: id(&self.user),
            api_key: id(&self.api_key),
            organization: id(&self.organization),
        };
        fence(Ordering::Acquire);
        let unchanged =
            version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version;
        unchanged.then_some((database, request, actor))
    }
}

struct Ring<'a> {
    noted: &'a AtomicU64,
    slots: &'a [Slot],
}

impl Ring<'_> {
    fn note(&self, database: u64, request: Key, actor: &Actor) {
        let at = self.noted.fetch_add(1, Ordering::Relaxed) as usize % self.slots.len();
        self.slots[at].write(database, request, actor);
    }

    /// The entries of these requests. One that has several was noted by several statements of one caller: the first found counts.
    fn find(&self, database: u64, mut wanted: HashSet<Key>) -> Vec<(Key, Actor)> {
        let entries = self.slots.iter().filter_map(Slot::read);
        entries
            .filter(|(of, request, _)| *of == database && wanted.remove(request))
            .map(|(_, request, actor)| (request, actor))
            .collect()
    }
}

fn shared() -> Ring<'static> {
    let start = START.load(Ordering::Relaxed);
    // SAFETY: attached at start with room for both, zeroed, and of both only atomics change.
    unsafe {
        let header = &*start.cast::<Header>();
        let slots = start.add(size_of::<Header>()).cast::<Slot>();
        Ring {
            noted: &header.noted,
            slots: std::slice::from_raw_parts(slots, guc::request_actor_slots()),
        }
    }
}

/// Notes the caller of this request, if the proxy gave it an id.
pub fn note(actor: &Actor) {
    let request = headers::of_request(HEADER, claims::parse_uuid).flatten();
    if let Some(request) = request
        && trust::is_request()
    {
        shared().note(own_database(), key_of_uuid(&request), actor);
    }
}

/// The callers of requests, by the ids that the proxy gave them. Requests that are not among the latest are left out.
#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::type_complexity)]
fn request_actors(
    requests: Vec<Option<Uuid>>,
) -> TableIterator<
    'static,
    (
        name!(request, Uuid),
        name!(kind, String),
        name!(user_id, Option<Uuid>),
        name!(api_key_id, Option<Uuid>),
        name!(org_id, Option<Uuid>),
    ),
> {
    let wanted = requests
        .iter()
        .flatten()
        .map(|id| key_of_uuid(id.as_bytes()));
    let found = shared().find(own_database(), wanted.collect());
    let id = |id: [u8; 16]| Uuid::from_bytes(id);
    TableIterator::new(found.into_iter().map(move |(request, actor)| {
        (
            id(uuid_of_key(request)),
            actor.kind.to_owned(),
            actor.user.map(id),
            actor.api_key.map(id),
            actor.organization.map(id),
        )
    }))
}

#[cfg(test)]
mod unit {
    use super::*;

    const DATABASE: u64 = 5;

    fn actor(number: u8) -> Actor {
        Actor {
            kind: "personal_key",
            user: Some([number; 16]),
            api_key: None,
            organization: Some([number; 16]),
        }
    }

    fn slots(count: usize) -> Vec<Slot> {
        (0..count).map(|_| Slot::default()).collect()
    }

    #[test]
    fn the_latest_requests_are_found_by_their_id_in_their_database() {
        let (noted, slots) = (AtomicU64::new(0), slots(4));
        let ring = Ring {
            noted: &noted,
            slots: &slots,
        };
        for number in 1..=6_u8 {
            ring.note(DATABASE, [number.into(), 9], &actor(number));
        }
        let all: HashSet<Key> = (1..=9).map(|number| [number, 9]).collect();
        let mut found = ring.find(DATABASE, all.clone());
        found.sort_by_key(|(request, _)| *request);
        let expected: Vec<_> = (3..=6)
            .map(|number| ([number.into(), 9], actor(number)))
            .collect();
        assert_eq!(found, expected, "the first two made room");
        assert_eq!(
            ring.find(DATABASE + 1, all),
            [],
            "another database's are not shown"
        );
        assert_eq!(
            ring.find(DATABASE, HashSet::from([[0, 0]])),
            [],
            "an empty slot is nobody's"
        );
    }

    #[test]
    fn an_entry_is_never_half_of_one_caller_and_half_of_another() {
        let (noted, slots) = (AtomicU64::new(0), slots(2));
        let ring = Ring {
            noted: &noted,
            slots: &slots,
        };
        std::thread::scope(|scope| {
            for number in 1..=3_u8 {
                let ring = &ring;
                scope.spawn(move || {
                    for _ in 0..50_000 {
                        ring.note(DATABASE, [number.into(), 9], &actor(number));
                    }
                });
            }
            for _ in 0..50_000 {
                for (request, found) in ring.find(DATABASE, HashSet::from([[1, 9], [2, 9], [3, 9]]))
                {
                    assert_eq!(found, actor(request[0] as u8));
                }
            }
        });
        assert_eq!(noted.into_inner(), 150_000);
    }
}

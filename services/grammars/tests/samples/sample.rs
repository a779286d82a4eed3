//! A cache with generations.
use std::{collections::HashMap, fmt::{self, Display as Show}};
use crate::clock::*;

/// How many entries there are at most.
pub const MAX_ENTRIES: usize = 1_000;
static mut HITS: u64 = 0;

/// Keeps values
/// for a while.
#[derive(Debug)]
pub struct Cache<K, V> {
    entries: HashMap<K, Entry<V>>,
    pub generation: u64,
}

pub(crate) enum Entry<V> {
    Fresh(V),
    Stale { value: V, since: u64 },
}

union Bits { whole: u32, half: [u16; 2] }

pub type Shared<T> = std::sync::Arc<T>;

pub trait Clock: Send {
    type Instant;
    const STEP: u64;
    fn now(&self) -> Self::Instant;
    fn later(&self, by: u64) -> u64 { by + Self::STEP }
}

impl<K: Eq, V> Cache<K, V> {
    /// An empty cache.
    pub fn new() -> Self {
        let local = HashMap::new();
        Self { entries: local, generation: 0 }
    }

    async fn refresh(&mut self, key: K) -> Option<V> {
        const RETRIES: usize = 3;
        let found = self.entries.get(&key);
        load::<K>(key, found).await
    }
}

impl<K, V> Show for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", render(self.generation))
    }
}

macro_rules! ensure {
    ($e:expr) => { if !$e { panic!() } };
}

fn render(generation: u64) -> String {
    fn inner(n: u64) -> u64 { n }
    ensure!(inner(generation) > 0);
    fmt::format(format_args!("{generation}"))
}

mod tests {
    unsafe extern "C" fn callback(code: i32) -> i32 { code }
}

//! For tests: the JSON log of one thread. It is one subscriber for the whole process that writes to the thread's own buffer.
//! A subscriber for each thread loses lines: an event that another thread reaches first may be switched off for all of them.

use std::{
    cell::RefCell,
    io,
    sync::{Arc, Mutex, Once, PoisonError},
};

use serde_json::Value;
use tracing_subscriber::layer::SubscriberExt;

use super::logs::{self, LogConfig};

type Buffer = Arc<Mutex<Vec<u8>>>;

thread_local! {
    static CURRENT: RefCell<Option<Buffer>> = const { RefCell::new(None) };
}

static INSTALLED: Once = Once::new();

/// Lines of this thread, and of the tasks that run on it, until it is dropped.
#[derive(Debug)]
pub struct Capture(Buffer);

impl Capture {
    /// Begins.
    pub fn start() -> Self {
        install();
        let buffer = Buffer::default();
        CURRENT.set(Some(buffer.clone()));
        Self(buffer)
    }

    /// Everything so far.
    pub fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The lines of this target, `kijko::request` or `kijko::job` for canonical ones.
    pub fn lines(&self, target: &str) -> Vec<Value> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"))
            .filter(|line| line["target"] == target)
            .collect()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

/// Makes the process-wide subscriber, once.
pub fn install() {
    INSTALLED.call_once(|| {
        let config = LogConfig {
            levels: "info".parse().expect("levels"),
            json: true,
        };
        let layer = logs::layer(&config, || ThreadBuffer);
        let log = tracing_subscriber::registry().with(layer);
        tracing::subscriber::set_global_default(log).expect("there is no other subscriber");
    });
}

struct ThreadBuffer;

impl io::Write for ThreadBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        CURRENT.with_borrow(|buffer| {
            if let Some(buffer) = buffer {
                let mut buffer = buffer.lock().unwrap_or_else(PoisonError::into_inner);
                buffer.extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

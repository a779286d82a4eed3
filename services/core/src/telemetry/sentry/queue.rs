//! Reports that wait for the sender.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Map, Value};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::metrics::{Outcome, ReportSeries};

/// So many wait at most.
pub(super) const MAX_WAITING: usize = 100;
/// Of a group, one report in this time is sent, which counts those before it.
const INTERVAL: Duration = Duration::from_secs(60);
/// A process has some dozen groups. More are a flood of new ones, and begin again.
const MAX_GROUPS: usize = 1_000;

/// What a line said.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) message: String,
    pub(super) target: &'static str,
    pub(super) file: Option<&'static str>,
    pub(super) line: Option<u32>,
    pub(super) at: SystemTime,
    /// Its fields, and those of the request or job that it is about.
    pub(super) fields: Map<String, Value>,
    pub(super) user: Option<Uuid>,
    /// Reports of its group before it that were not sent.
    pub(super) suppressed: u64,
}

impl Report {
    /// What tells groups apart. None of these is a value that a caller chooses.
    pub(super) fn group(&self) -> Vec<String> {
        let names = ["route", "kind", "error_code", "place"];
        let fields = names.map(|name| match self.fields.get(name) {
            Some(Value::String(text)) => text.clone(),
            _ => String::new(),
        });
        let mut group = vec![self.target.to_owned(), self.message.clone()];
        group.extend(fields);
        group
    }
}

/// The queue.
pub(super) struct Queue {
    reports: Mutex<Option<mpsc::Sender<Report>>>,
    groups: Mutex<HashMap<Vec<String>, Group>>,
    series: Arc<ReportSeries>,
}

struct Group {
    sent: Instant,
    suppressed: u64,
}

impl Queue {
    pub(super) fn new(series: Arc<ReportSeries>) -> (Arc<Self>, mpsc::Receiver<Report>) {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        let queue = Self {
            reports: Mutex::new(Some(sender)),
            groups: Mutex::default(),
            series,
        };
        (Arc::new(queue), receiver)
    }

    /// Takes a report, or drops it if there is no room.
    pub(super) fn push(&self, mut report: Report) {
        let Some(suppressed) = self.due(report.group(), Instant::now()) else {
            return self.series.count(Outcome::Suppressed);
        };
        report.suppressed = suppressed;
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = reports
            .as_ref()
            .is_some_and(|reports| reports.try_send(report).is_ok());
        drop(reports);
        if !taken {
            self.series.count(Outcome::Dropped);
        }
    }

    /// How many of the group were suppressed since the last one; None: this one is, too.
    fn due(&self, group: Vec<String>, now: Instant) -> Option<u64> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if groups.len() >= MAX_GROUPS && !groups.contains_key(&group) {
            groups.clear();
        }
        match groups.get_mut(&group) {
            Some(known) if now < known.sent + INTERVAL => {
                known.suppressed += 1;
                None
            }
            Some(known) => {
                known.sent = now;
                Some(std::mem::take(&mut known.suppressed))
            }
            None => {
                let sent = now;
                groups.insert(
                    group,
                    Group {
                        sent,
                        suppressed: 0,
                    },
                );
                Some(0)
            }
        }
    }

    /// No more reports; the sender takes what is there.
    pub(super) fn close(&self) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        *reports = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_group_a_minute_counts_those_before_it() {
        let (queue, _reports) = Queue::new(Arc::default());
        let start = Instant::now();
        let due = |name: &str, seconds: u64| {
            queue.due(vec![name.to_owned()], start + Duration::from_secs(seconds))
        };
        assert_eq!((due("a", 0), due("b", 0)), (Some(0), Some(0)));
        assert_eq!((due("a", 1), due("a", 59)), (None, None));
        assert_eq!((due("a", 60), due("a", 120)), (Some(2), Some(0)));
        for other in 0..2 * MAX_GROUPS {
            due(&other.to_string(), 121);
        }
        assert!(queue.groups.lock().unwrap().len() <= MAX_GROUPS);
    }
}

//! The platform's feature flags, for policies and functions. The domain writes their definitions into `kijko.flag_snapshots`
//! (flag.sql), one row for each environment, and each backend compiles a row once.
//!
//! A row is read with the snapshot of the running statement, so a change counts from the next statement on, also in the
//! transaction that makes it. Compiled definitions are kept by the row's revision, which comes from a sequence: a revision that
//! was rolled back is never given again.
//!
//! - counts.rs counts what was evaluated, in shared memory; flush.rs writes that to `kijko.flag_evaluations`.

pub mod counts;
pub mod flush;

use std::cell::RefCell;
use std::rc::Rc;

use kijko_flags::{Context, Engine, Evaluation, Part, Patterns};
use pgrx::JsonB;
use pgrx::prelude::*;
use serde_json::{Map, Value};

use crate::clock;
use crate::pg::query;
use crate::pg::scan::{self, ScanKey};

/// Maximum number of compiled environments of a backend. The oldest one goes.
const CAPACITY: usize = 4;
/// Columns of `kijko.flag_snapshots`, whose primary key is environment.
const ENVIRONMENT: i16 = 1;
const REVISION: i32 = 2;
const DEFINITIONS: i32 = 3;

thread_local! {
    static COMPILED: RefCell<Vec<(String, i64, Rc<Engine>)>> = RefCell::default();
}

/// False for null, and for a flag that does not exist.
#[pg_extern(stable, parallel_safe)]
fn flag_enabled(
    name: Option<&str>,
    context: default!(Option<JsonB>, "'{}'"),
    environment: default!(Option<&str>, "'production'"),
) -> bool {
    evaluate(name, context, environment).is_some_and(|flag| flag.enabled)
}

/// Null for a flag that does not exist.
#[pg_extern(stable, parallel_safe)]
fn flag_variant(
    name: Option<&str>,
    context: default!(Option<JsonB>, "'{}'"),
    environment: default!(Option<&str>, "'production'"),
) -> Option<JsonB> {
    evaluate(name, context, environment).map(|flag| JsonB(flag.variant()))
}

/// All flags, in the form of Unleash's Frontend API.
#[pg_extern(stable, parallel_safe)]
fn flags(
    context: default!(Option<JsonB>, "'{}'"),
    environment: default!(Option<&str>, "'production'"),
) -> JsonB {
    let environment = environment.unwrap_or_default();
    let all = engine(environment)
        .map(|engine| engine.evaluate_all(&read_context(context)))
        .unwrap_or_default();
    // Which of them the caller uses, is not known.
    all.iter()
        .for_each(|evaluation| counts::add(environment, evaluation));
    JsonB(all.iter().map(Evaluation::toggle).collect())
}

/// Null if the part can work. The part is `strategy`, `constraints` or `variants`.
#[pg_extern(immutable, parallel_safe)]
fn flag_problem(part: Option<&str>, definition: Option<JsonB>) -> Option<String> {
    let part = match part {
        Some("strategy") => Part::Strategy,
        Some("constraints") => Part::Constraints,
        Some("variants") => Part::Variants,
        _ => return Some("part: strategy, constraints or variants".to_owned()),
    };
    let JsonB(definition) = definition.unwrap_or(JsonB(Value::Null));
    kijko_flags::problem(part, &definition)
}

fn evaluate(
    name: Option<&str>,
    context: Option<JsonB>,
    environment: Option<&str>,
) -> Option<Evaluation> {
    let environment = environment?;
    let evaluation = engine(environment)?.evaluate(name?, &read_context(context))?;
    counts::add(environment, &evaluation);
    Some(evaluation)
}

/// What is no object is an empty context: a policy must not fail by what a client sends.
fn read_context(context: Option<JsonB>) -> Context {
    let members = match context {
        Some(JsonB(Value::Object(members))) => members,
        _ => Map::new(),
    };
    let now = clock::instant(clock::now_micros()).unwrap_or_default();
    kijko_flags::context(members, &now.to_string())
}

/// The compiled definitions of an environment, as the running statement sees them.
fn engine(environment: &str) -> Option<Rc<Engine>> {
    let table = query::find_table(c"flag_snapshots")?;
    let found = with_snapshot(|snapshot| {
        let keys = [ScanKey::new(ENVIRONMENT, environment)];
        // SAFETY: the primary key is of type text.
        unsafe {
            scan::find(table, &keys, snapshot, |row| {
                let revision = row.integer(REVISION).unwrap_or_default();
                match cached(environment, revision) {
                    Some(engine) => (revision, Ok(engine)),
                    None => (revision, Err(row.text(DEFINITIONS).unwrap_or_default())),
                }
            })
        }
    });
    match found? {
        (_, Ok(engine)) => Some(engine),
        (revision, Err(definitions)) => {
            // Regular expressions are evaluated in the sidecar only, which can be stopped.
            let engine = Engine::compile(&definitions, Patterns::Refuse).ok()?;
            let engine = Rc::new(engine);
            keep(environment, revision, engine.clone());
            Some(engine)
        }
    }
}

fn with_snapshot<T>(body: impl FnOnce(pg_sys::Snapshot) -> T) -> T {
    // SAFETY: the snapshot stays active while `body` runs.
    let active = unsafe { pg_sys::ActiveSnapshotSet() };
    match active {
        true => body(unsafe { pg_sys::GetActiveSnapshot() }),
        false => scan::with_latest_snapshot(body),
    }
}

fn cached(environment: &str, revision: i64) -> Option<Rc<Engine>> {
    COMPILED.with_borrow(|compiled| {
        let is_asked =
            |entry: &&(String, i64, Rc<Engine>)| entry.1 == revision && entry.0 == environment;
        compiled.iter().find(is_asked).map(|entry| entry.2.clone())
    })
}

fn keep(environment: &str, revision: i64, engine: Rc<Engine>) {
    COMPILED.with_borrow_mut(|compiled| {
        // An older statement may still need the former revision, and compiles it again.
        compiled.retain(|entry| entry.0 != environment);
        if compiled.len() >= CAPACITY {
            compiled.remove(0);
        }
        compiled.push((environment.to_owned(), revision, engine));
    });
}

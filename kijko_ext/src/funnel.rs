//! Funnels: how many steps of a sequence one person has done in order, by an aggregate over that person's events (steps.rs). Its
//! memory does not grow with them.

use pgrx::prelude::*;
use pgrx::{Internal, PgSqlErrorCode};

mod steps;

use steps::{Event, Funnel, MAX_STEPS};

/// Events must come in the order of their time. A row with a null changes nothing.
#[pg_extern(immutable)]
fn funnel_add(
    mut state: Internal,
    at: Option<TimestampWithTimeZone>,
    matched: Option<i32>,
    length: Option<i32>,
    window: Option<i64>,
    strict_increase: Option<bool>,
    call: pg_sys::FunctionCallInfo,
) -> Internal {
    let (Some(at), Some(matched), Some(length), Some(window), Some(strict_increase)) =
        (at, matched, length, window, strict_increase)
    else {
        return state;
    };
    let event = Event {
        at: at.into_inner(),
        matched: matched as u32,
    };
    // SAFETY: only this function makes states.
    if let Some(funnel) = unsafe { state.get_mut::<Funnel>() } {
        add(funnel, event);
        return state;
    }
    let length = usize::try_from(length).ok();
    let Some(length) = length.filter(|length| (1..=MAX_STEPS).contains(length)) else {
        refuse(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "a funnel has 1 to 20 steps",
        );
    };
    let Some(mut memory) = crate::pg::aggregate::memory(call) else {
        refuse(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "only the aggregate funnel_depth calls this function",
        );
    };
    let mut funnel = Funnel::new(length, window, strict_increase);
    add(&mut funnel, event);
    Internal::from(Some(pg_sys::Datum::from(
        memory.leak_and_drop_on_delete(funnel),
    )))
}

/// 0 when no row was an event.
#[pg_extern(immutable)]
fn funnel_final(state: Internal) -> i32 {
    // SAFETY: only `funnel_add` makes states.
    unsafe { state.get::<Funnel>() }.map_or(0, |funnel| funnel.depth() as i32)
}

fn add(funnel: &mut Funnel, event: Event) {
    if funnel.add(event).is_err() {
        refuse(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "events of a funnel come in the order of their time",
        );
    }
}

fn refuse(code: PgSqlErrorCode, reason: &'static str) -> ! {
    ereport!(ERROR, code, reason);
}

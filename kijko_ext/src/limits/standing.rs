//! `kijko.standing`: how a meter stands, from its counter. Nothing is used, and nothing is written.

use super::charge::{self, Decision, Meter};
use super::consume;
use super::period::Kind;
use super::policy;
use crate::clock;
use crate::pg::sql_function::{Answer, Arguments, Refusal, sql_function};

sql_function!(kijko_standing, pg_finfo_kijko_standing, standing);

fn standing(arguments: Arguments) -> Answer {
    let (Some(subject), Some(name)) = (arguments.uuid(0), arguments.text(1)) else {
        return Err(Refusal::invalid("a standing needs a subject and a meter"));
    };
    let meter = Meter {
        subject: &subject,
        name,
    };
    let now = clock::now_micros();
    let policy = policy::of(meter.subject, meter.name, now, Kind::Month);
    let used = charge::used(&policy, meter)?;
    let decision = Decision {
        allowed: policy.limit.is_none_or(|limit| used < limit),
        used,
        overage: 0,
    };
    let verdict = charge::verdict(&policy, meter.name, 1, &decision, now);
    Ok(consume::composite(arguments, verdict))
}

//! The grammar: five fields, names, ranges, steps and lists, and the nicknames. What is not in it is refused with the
//! field and the reason, before the expression reaches the engine: croner also knows seconds, years, `L`, `W`, `#`, `?`
//! and `+`, on which cron implementations differ.

use std::fmt;

use thiserror::Error;

/// One of the five fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Minute,
    Hour,
    DayOfMonth,
    Month,
    DayOfWeek,
}

use Field::*;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum GrammarError {
    #[error("the expression is empty")]
    Empty,
    #[error("the expression is longer than {MAX_LENGTH} characters")]
    TooLong,
    #[error("{0} is not one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly")]
    Nickname(String),
    #[error("there are {0} fields; cron has five: minute, hour, day of month, month, day of week")]
    FieldCount(usize),
    #[error("{0}: {1}")]
    Field(Field, Reason),
    #[error("day of month: no month of the field month has a day {0}, so this never fires")]
    NeverFires(u32),
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum Reason {
    #[error("an item of the list is empty")]
    EmptyItem,
    #[error("\"{0}\" is not a number")]
    NotANumber(String),
    #[error("\"{0}\" is neither a number nor a name")]
    NotANumberOrName(String),
    #[error("{0} is not between {1} and {2}")]
    OutOfRange(u32, u32, u32),
    #[error("the range {0} runs backwards")]
    Backwards(String),
    #[error("\"{0}\" is not a range")]
    NotARange(String),
    #[error("\"{0}\" is not a step of 1 or more")]
    NotAStep(String),
    #[error("the step {0} is larger than the field, whose values end at {1}")]
    StepTooLarge(u32, u32),
    #[error("a step needs * or a range before it: write {0}-{1}/{2}")]
    StepOnValue(String, u32, String),
    #[error("\"{0}\" is not part of cron's five-field grammar")]
    Extension(char),
}

/// Long enough for every list that makes sense, short enough to show.
const MAX_LENGTH: usize = 512;

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// The most days that a month ever has, from January on.
const MAX_DAYS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// A valid expression, written out in numbers.
#[derive(Debug, PartialEq, Eq)]
pub struct Expression {
    /// The five fields in croner's grammar.
    pub pattern: String,
    /// The hour field is `*`: the schedule follows elapsed time rather than the wall clock.
    pub every_hour: bool,
}

pub fn parse(text: &str) -> Result<Expression, GrammarError> {
    if text.len() > MAX_LENGTH {
        return Err(GrammarError::TooLong);
    }
    let text = text.trim().to_ascii_lowercase();
    if text.is_empty() {
        return Err(GrammarError::Empty);
    }
    let text = if text.starts_with('@') {
        expand_nickname(&text)?
    } else {
        &text
    };
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields[..] else {
        return Err(GrammarError::FieldCount(fields.len()));
    };
    let minute = parse_field(Minute, minute)?;
    let every_hour = hour == "*";
    let hour = parse_field(Hour, hour)?;
    let any_weekday = weekday == "*";
    let day = parse_field(DayOfMonth, day)?;
    let month = parse_field(Month, month)?;
    let weekday = parse_field(DayOfWeek, weekday)?;

    // A weekday comes in every month. Days alone can miss all of the months.
    if any_weekday {
        let first = day.values.trailing_zeros();
        let fires =
            (1..=12).any(|m| month.values & (1 << m) != 0 && first <= MAX_DAYS[m as usize - 1]);
        if !fires {
            return Err(GrammarError::NeverFires(first));
        }
    }
    Ok(Expression {
        pattern: [minute.text, hour.text, day.text, month.text, weekday.text].join(" "),
        every_hour,
    })
}

fn expand_nickname(name: &str) -> Result<&'static str, GrammarError> {
    Ok(match name {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => return Err(GrammarError::Nickname(name.to_owned())),
    })
}

/// A field's set of values, one bit each, and the field in numbers.
struct Parsed {
    values: u64,
    text: String,
}

fn parse_field(field: Field, text: &str) -> Result<Parsed, GrammarError> {
    let wrong = |reason| GrammarError::Field(field, reason);
    let (min, max) = field.range();
    let mut values: u64 = 0;
    let mut items = Vec::new();
    for item in text.split(',') {
        if item.is_empty() {
            return Err(wrong(Reason::EmptyItem));
        }
        if let Some(c) = item.chars().find(|c| matches!(c, '#' | '?' | '+' | '%')) {
            return Err(wrong(Reason::Extension(c)));
        }
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (min, max),
            Some((first, last)) => {
                if first.is_empty() || last.is_empty() {
                    return Err(wrong(Reason::NotARange(range.to_owned())));
                }
                // Sunday ends a week as well as it begins one: fri-sun.
                let last = if field == DayOfWeek && last == "sun" {
                    7
                } else {
                    field.value(last)?
                };
                (field.value(first)?, last)
            }
            None => {
                let value = field.value(range)?;
                if let Some(step) = step {
                    return Err(wrong(Reason::StepOnValue(
                        range.to_owned(),
                        max,
                        step.to_owned(),
                    )));
                }
                (value, value)
            }
        };
        if first > last {
            return Err(wrong(Reason::Backwards(range.to_owned())));
        }
        let stride = match step {
            None => 1,
            Some(step) => {
                let stride = number(step).filter(|n| *n > 0);
                let stride = stride.ok_or_else(|| wrong(Reason::NotAStep(step.to_owned())))?;
                if stride > max {
                    return Err(wrong(Reason::StepTooLarge(stride, max)));
                }
                stride
            }
        };
        values = (first..=last)
            .step_by(stride as usize)
            .fold(values, |set, value| set | 1 << value);
        items.push(match (range, step) {
            ("*", None) => "*".to_owned(),
            ("*", Some(step)) => format!("*/{step}"),
            (_, None) if first == last => first.to_string(),
            (_, None) => format!("{first}-{last}"),
            (_, Some(step)) => format!("{first}-{last}/{step}"),
        });
    }
    Ok(Parsed {
        values,
        text: items.join(","),
    })
}

impl Field {
    /// The least and the greatest value. Day of week has Sunday at both ends, 0 and 7.
    fn range(self) -> (u32, u32) {
        match self {
            Minute => (0, 59),
            Hour => (0, 23),
            DayOfMonth => (1, 31),
            Month => (1, 12),
            DayOfWeek => (0, 7),
        }
    }

    fn names(self) -> (&'static [&'static str], u32) {
        match self {
            Month => (&MONTHS, 1),
            DayOfWeek => (&DAYS, 0),
            Minute | Hour | DayOfMonth => (&[], 0),
        }
    }

    fn value(self, text: &str) -> Result<u32, GrammarError> {
        let (names, first) = self.names();
        if let Some(place) = names.iter().position(|name| *name == text) {
            return Ok(place as u32 + first);
        }
        let unknown = || {
            if names.is_empty() {
                Reason::NotANumber(text.to_owned())
            } else {
                Reason::NotANumberOrName(text.to_owned())
            }
        };
        let value = number(text).ok_or_else(|| GrammarError::Field(self, unknown()))?;
        let (min, max) = self.range();
        if (min..=max).contains(&value) {
            Ok(value)
        } else {
            Err(GrammarError::Field(
                self,
                Reason::OutOfRange(value, min, max),
            ))
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Minute => "minute",
            Hour => "hour",
            DayOfMonth => "day of month",
            Month => "month",
            DayOfWeek => "day of week",
        })
    }
}

/// Digits only: no sign, which `parse` would take.
fn number(text: &str) -> Option<u32> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

#[cfg(test)]
mod unit {
    use super::*;

    fn pattern(text: &str) -> String {
        parse(text)
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .pattern
    }

    fn reason(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    #[test]
    fn expressions_are_written_out_in_numbers() {
        assert_eq!(
            pattern(" */15  9-17 1,15 JAN-mar Mon-FRI "),
            "*/15 9-17 1,15 1-3 1-5"
        );
        assert_eq!(pattern("0 0 * * fri-sun"), "0 0 * * 5-7");
        assert_eq!(pattern("0 0 * * sun-tue"), "0 0 * * 0-2");
        assert_eq!(pattern("5-59/10 0 1 12 7"), "5-59/10 0 1 12 7");
        assert_eq!(pattern("@daily"), "0 0 * * *");
        assert_eq!(pattern("@Annually"), "0 0 1 1 *");
        assert!(parse("0 * * * *").unwrap().every_hour);
        assert!(!parse("0 */1 * * *").unwrap().every_hour);
    }

    #[test]
    fn a_refusal_names_the_field_and_the_reason() {
        for (text, why) in [
            ("", "the expression is empty"),
            (
                "* * * *",
                "there are 4 fields; cron has five: minute, hour, day of month, month, day of week",
            ),
            (
                "0 * * * * *",
                "there are 6 fields; cron has five: minute, hour, day of month, month, day of week",
            ),
            ("60 * * * *", "minute: 60 is not between 0 and 59"),
            ("* 24 * * *", "hour: 24 is not between 0 and 23"),
            ("* * 0 * *", "day of month: 0 is not between 1 and 31"),
            ("* * * 13 *", "month: 13 is not between 1 and 12"),
            ("* * * * 8", "day of week: 8 is not between 0 and 7"),
            (
                "* * * foo *",
                "month: \"foo\" is neither a number nor a name",
            ),
            ("x * * * *", "minute: \"x\" is not a number"),
            ("-5 * * * *", "minute: \"-5\" is not a range"),
            ("5-1 * * * *", "minute: the range 5-1 runs backwards"),
            (
                "* * * * sat-mon",
                "day of week: the range sat-mon runs backwards",
            ),
            ("1,,2 * * * *", "minute: an item of the list is empty"),
            ("*/0 * * * *", "minute: \"0\" is not a step of 1 or more"),
            (
                "*/90 * * * *",
                "minute: the step 90 is larger than the field, whose values end at 59",
            ),
            ("*/-1 * * * *", "minute: \"-1\" is not a step of 1 or more"),
            (
                "5/10 * * * *",
                "minute: a step needs * or a range before it: write 5-59/10",
            ),
            ("* * L * *", "day of month: \"l\" is not a number"),
            (
                "* * ? * *",
                "day of month: \"?\" is not part of cron's five-field grammar",
            ),
            (
                "* * * * 5#2",
                "day of week: \"#\" is not part of cron's five-field grammar",
            ),
            (
                "@reboot",
                "@reboot is not one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly",
            ),
            (
                "0 0 30 2 *",
                "day of month: no month of the field month has a day 30, so this never fires",
            ),
            (
                "0 0 31 4,6,9,11 *",
                "day of month: no month of the field month has a day 31, so this never fires",
            ),
        ] {
            assert_eq!(reason(text), why, "{text}");
        }
        assert_eq!(
            reason(&"1,".repeat(300)),
            "the expression is longer than 512 characters"
        );
    }

    #[test]
    fn rare_is_not_never() {
        parse("0 0 29 2 *").unwrap();
        parse("0 0 30 2,3 *").unwrap();
        parse("0 0 30 2 mon").unwrap(); // either day is enough, and February has Mondays
    }
}

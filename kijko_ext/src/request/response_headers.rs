//! The header fields that describe limits. RateLimit-Policy and RateLimit (structured fields of the IETF's draft) list all of
//! them. X-RateLimit-* describe the one with the least left: of a refusal, or where all fields are asked for. Pure.

/// The state of a limit after this request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LimitState<'a> {
    pub name: &'a str,
    pub quota: u64,
    pub remaining: u64,
    /// Seconds in which the whole quota is refilled. None for a period without a start or an end.
    pub window: Option<u64>,
    /// Seconds until the whole quota is available again. None for never.
    pub reset: Option<u64>,
    /// Seconds until the same request could pass. None when it passes, or never will.
    pub retry_after: Option<u64>,
    pub allowed: bool,
}

/// A request that a limit refuses: the limit as the headers show it, and the error's details.
pub struct Refused {
    pub limit: LimitState<'static>,
    pub details: String,
}

impl LimitState<'_> {
    /// The details of a refusal by this rate limit.
    pub fn exceeded(&self) -> String {
        let window = self.window.map(|window| format!(" in {window} s"));
        let window = window.unwrap_or_default();
        format!("{}: more than {}{window}", self.name, self.quota)
    }
}

/// The header fields of a request's limits, given Unix time. `all`: also where nothing is refused.
pub fn of_limits(limits: &[LimitState], now: u64, all: bool) -> Vec<(&'static str, String)> {
    let Some(tightest) = tightest(limits) else {
        return Vec::new();
    };
    let [mut policies, mut states] = [(); 2].map(|()| String::with_capacity(96)); // growing costs more than room
    for limit in limits {
        push_item(&mut policies, limit.name, ";q=", limit.quota);
        push_parameter(&mut policies, ";w=", limit.window);
        push_item(&mut states, limit.name, ";r=", limit.remaining);
        push_parameter(&mut states, ";t=", limit.reset);
    }
    let mut headers = Vec::with_capacity(7);
    headers.extend([("RateLimit-Policy", policies), ("RateLimit", states)]);
    if tightest.allowed && !all {
        return headers;
    }
    headers.extend([
        ("X-RateLimit-Limit", tightest.quota.to_string()),
        ("X-RateLimit-Remaining", tightest.remaining.to_string()),
    ]);
    if let Some(reset) = tightest.reset {
        headers.push(("X-RateLimit-Reset", (now + reset).to_string()));
    }
    headers.push(("X-RateLimit-Resource", tightest.name.to_owned()));
    if let Some(seconds) = tightest.retry_after {
        headers.push(("Retry-After", seconds.max(1).to_string()));
    }
    headers
}

/// Adds an item with its first parameter to a list. Every response has two such lists, and formatting costs several times this.
fn push_item(list: &mut String, name: &str, parameter: &str, value: u64) {
    if !list.is_empty() {
        list.push_str(", ");
    }
    list.push('"');
    list.push_str(name);
    list.push('"');
    push_parameter(list, parameter, Some(value));
}

fn push_parameter(list: &mut String, parameter: &str, value: Option<u64>) {
    let Some(mut value) = value else { return };
    let mut digits = [0; 20]; // of u64::MAX
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    list.push_str(parameter);
    list.push_str(str::from_utf8(&digits[first..]).unwrap_or_default());
}

/// A use of a quota.
#[derive(Clone, Copy)]
pub struct QuotaUse<'a> {
    pub name: &'a str,
    pub limit: i64,
    pub remaining: i64,
    /// Unix time; None for a lifetime.
    pub reset_at: Option<u64>,
    pub refused: bool,
}

/// The header fields after a use of a quota, given the former lists. None removes a field.
pub fn of_quota_use(
    used: Option<QuotaUse>,
    retry_after: Option<u32>,
    now: u64,
    all: bool,
    policies: Option<&str>,
    states: Option<&str>,
) -> Vec<(&'static str, Option<String>)> {
    let mut headers = Vec::new();
    if let Some(used) = used {
        let item = |parameter: &str| format!("\"{}\";{parameter}", used.name);
        let policy = item(&format!("q={}", used.limit.max(0)));
        let reset = used
            .reset_at
            .map_or(String::new(), |at| format!(";t={}", at.saturating_sub(now)));
        let state = item(&format!("r={}{reset}", used.remaining.max(0)));
        headers = vec![
            (
                "RateLimit-Policy",
                Some(beside(policies, used.name, &policy)),
            ),
            ("RateLimit", Some(beside(states, used.name, &state))),
        ];
    }
    if let Some(used) = used.filter(|used| used.refused || all) {
        headers.extend([
            ("X-RateLimit-Limit", Some(used.limit.to_string())),
            ("X-RateLimit-Remaining", Some(used.remaining.to_string())),
            ("X-RateLimit-Reset", used.reset_at.map(|at| at.to_string())),
            ("X-RateLimit-Resource", Some(used.name.to_owned())),
        ]);
    }
    if let Some(seconds) = retry_after {
        headers.push(("Retry-After", Some(seconds.to_string())));
    }
    headers
}

/// Adds an item to a list, or replaces the item of its name. Names contain no commas or quotes.
fn beside(list: Option<&str>, name: &str, item: &str) -> String {
    let own = format!("\"{name}\";");
    let others = list.into_iter().flat_map(|list| list.split(", "));
    let others = others.filter(|other| !other.is_empty() && !other.starts_with(&own));
    others.chain([item]).collect::<Vec<_>>().join(", ")
}

/// The limit that refuses for longest, else the one with the smallest part left.
pub fn tightest<'a, 'b>(limits: &'b [LimitState<'a>]) -> Option<&'b LimitState<'a>> {
    let part = |limit: &LimitState| {
        u128::from(limit.remaining) * 1_000_000 / u128::from(limit.quota.max(1))
    };
    let refusing = limits.iter().filter(|limit| !limit.allowed);
    refusing
        .max_by_key(|limit| limit.retry_after.unwrap_or(u64::MAX))
        .or_else(|| limits.iter().min_by_key(|limit| part(limit)))
}

#[cfg(test)]
mod unit {
    use super::*;

    const MINUTE: LimitState = LimitState {
        name: "requests",
        quota: 60,
        remaining: 50,
        window: Some(60),
        reset: Some(10),
        retry_after: None,
        allowed: true,
    };

    #[test]
    fn numbers_are_written_in_full() {
        for number in [0, 9, 10, 60, 1_000_000, u64::MAX] {
            let mut list = String::new();
            push_parameter(&mut list, ";q=", Some(number));
            assert_eq!(list, format!(";q={number}"));
        }
    }

    #[test]
    fn all_limits_are_listed_and_the_tightest_has_its_own_headers() {
        let month = LimitState {
            name: "api_requests",
            quota: 10_000,
            remaining: 100,
            window: Some(2_592_000),
            reset: Some(99),
            ..MINUTE
        };
        let headers = of_limits(&[MINUTE, month], 1_000, true);
        let expected = [
            (
                "RateLimit-Policy",
                "\"requests\";q=60;w=60, \"api_requests\";q=10000;w=2592000",
            ),
            (
                "RateLimit",
                "\"requests\";r=50;t=10, \"api_requests\";r=100;t=99",
            ),
            ("X-RateLimit-Limit", "10000"),
            ("X-RateLimit-Remaining", "100"),
            ("X-RateLimit-Reset", "1099"),
            ("X-RateLimit-Resource", "api_requests"),
        ];
        assert_eq!(
            headers,
            expected.map(|(name, value)| (name, value.to_owned()))
        );
        assert_eq!(of_limits(&[MINUTE, month], 1_000, false), headers[..2]);
    }

    #[test]
    fn a_lifetime_has_no_reset() {
        let ever = LimitState {
            window: None,
            reset: None,
            remaining: 0,
            allowed: false,
            ..MINUTE
        };
        let expected = [
            ("RateLimit-Policy", "\"requests\";q=60"),
            ("RateLimit", "\"requests\";r=0"),
            ("X-RateLimit-Limit", "60"),
            ("X-RateLimit-Remaining", "0"),
            ("X-RateLimit-Resource", "requests"),
        ];
        let headers = of_limits(&[ever], 1_000, false);
        assert_eq!(
            headers,
            expected.map(|(name, value)| (name, value.to_owned()))
        );
    }

    #[test]
    fn a_refusal_says_when_to_come_back() {
        let refused = LimitState {
            remaining: 0,
            retry_after: Some(0),
            allowed: false,
            ..MINUTE
        };
        let headers = of_limits(&[MINUTE, refused], 0, false);
        assert_eq!(headers.last(), Some(&("Retry-After", "1".to_owned())));
    }

    #[test]
    fn a_use_stands_beside_the_limits_of_the_request() {
        let used = QuotaUse {
            name: "executions",
            limit: 50,
            remaining: 49,
            reset_at: Some(1_300),
            refused: false,
        };
        assert_eq!(
            of_quota_use(Some(used), None, 0, false, None, None).len(),
            2
        );
        let first = of_quota_use(Some(used), None, 1_000, true, Some("\"a\";q=1;w=2"), None);
        let value = |name| {
            let (_, value) = first.iter().find(|(other, _)| *other == name).unwrap();
            value.clone().unwrap()
        };
        let policies = "\"a\";q=1;w=2, \"executions\";q=50";
        assert_eq!(value("RateLimit-Policy"), policies);
        assert_eq!(value("RateLimit"), "\"executions\";r=49;t=300");
        assert_eq!(value("X-RateLimit-Reset"), "1300");

        let more = QuotaUse {
            remaining: 0,
            reset_at: None,
            refused: true,
            ..used
        };
        let again = of_quota_use(
            Some(more),
            Some(7),
            0,
            false,
            Some(policies),
            Some("\"executions\";r=1"),
        );
        assert_eq!(again[0].1.as_deref(), Some(policies));
        assert_eq!(again[1].1.as_deref(), Some("\"executions\";r=0"));
        assert_eq!(again[4], ("X-RateLimit-Reset", None));
        assert_eq!(again[6], ("Retry-After", Some("7".to_owned())));
        assert!(of_quota_use(None, None, 0, true, None, None).is_empty());
    }

    #[test]
    fn without_limits_there_are_no_headers() {
        assert!(of_limits(&[], 0, true).is_empty());
    }
}

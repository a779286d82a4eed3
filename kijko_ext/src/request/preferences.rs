//! Preferences (RFC 7240) that are refused. Pure.
//!
//! PostgREST takes only exact spellings: the header's value is cut at commas, white space around each part is dropped, and
//! what is left must be, for example, `count=planned`. The check here is more liberal, so that it also refuses
//! spellings that another version of PostgREST might accept.

/// Why a Prefer header is refused; None for all others.
pub fn problem(header: &str) -> Option<&'static str> {
    header
        .split(',')
        .find_map(|preference| match &*canonical(preference) {
            "count=planned" | "count=estimated" => {
                Some("count=planned and count=estimated are not available: use count=exact")
            }
            "tx=rollback" => Some("tx=rollback is not available: a request that succeeds commits"),
            _ => None,
        })
}

/// Without parameters, quotes, escapes and white space, in lower case.
fn canonical(preference: &str) -> String {
    let preference = preference.split(';').next().unwrap_or_default();
    preference
        .chars()
        .filter(|c| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '\'' | '\\'))
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod unit {
    use super::problem;

    #[test]
    fn estimates_and_rollbacks_are_refused_in_every_spelling() {
        for header in [
            "count=planned",
            "count=estimated",
            "return=minimal, count=planned",
            "return=minimal,count=planned,count=exact",
            "COUNT=Planned",
            " count = \"planned\" ",
            "\u{a0}count=planned\u{a0}",
            "count=pl\\anned",
            "count=planned;foo=bar",
            "tx=rollback",
            "Tx = 'Rollback'",
            "return=representation,tx=rollback",
        ] {
            assert!(problem(header).is_some(), "{header}");
        }
    }

    #[test]
    fn everything_else_passes() {
        for header in [
            "",
            "count=exact",
            "count=none",
            "tx=commit",
            "return=representation,resolution=merge-duplicates",
            "discount=planned",
            "count=plannedx",
            "planned",
        ] {
            assert_eq!(problem(header), None, "{header}");
        }
    }
}

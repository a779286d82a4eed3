//! `kijko.rate_limit_headers`.

use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

static RATE_LIMIT_HEADERS: GucSetting<RateLimitHeaders> =
    GucSetting::<RateLimitHeaders>::new(RateLimitHeaders::Draft);

/// Which header fields describe the limits of a request that passes. A refusal has all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum RateLimitHeaders {
    /// RateLimit and RateLimit-Policy, as in the IETF's draft.
    #[name = c"draft"]
    Draft,
    /// X-RateLimit-* as well.
    #[name = c"all"]
    All,
}

pub fn define() {
    GucRegistry::define_enum_guc(
        c"kijko.rate_limit_headers",
        c"Which headers describe the limits of a request that passes: draft (RateLimit and RateLimit-Policy) or all (X-RateLimit-*, too).",
        c"A refusal always has all of them, and Retry-After.",
        &RATE_LIMIT_HEADERS,
        GucContext::Suset, // clients must not choose
        GucFlags::empty(),
    );
}

pub fn are_all_wanted() -> bool {
    RATE_LIMIT_HEADERS.get() == RateLimitHeaders::All
}

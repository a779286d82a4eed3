//! What a platform's answer means. The classes are states, not hints to try again: whether a post may exist decides everything.

use std::time::Duration;

use kijko_core::outbound::{self, OutboundError};
use serde_json::Value;

use super::http::Reply;

/// What is to be done about a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// The account must be authorized again.
    Reauthorize,
    /// The platform does not take this post.
    Permanent,
    /// Not now: the account or the application has used up what it may do.
    Quota,
    /// It may work in a while.
    Transient,
}

impl Class {
    /// As the database's functions take it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Reauthorize => "reauthorize",
            Self::Permanent => "permanent",
            Self::Quota => "quota",
            Self::Transient => "transient",
        }
    }
}

/// The platform certainly did nothing.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub class: Class,
    /// Ours; programs act on it.
    pub code: String,
    /// The platform's words.
    pub message: String,
    pub status: Option<u16>,
    /// How long the platform asks to wait.
    pub wait: Option<Duration>,
}

/// Nobody knows what the platform did.
#[derive(Debug, Clone)]
pub(super) struct Unknown {
    pub code: &'static str,
    pub message: String,
    pub status: Option<u16>,
}

/// How a call failed.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    Refused(Refusal),
    Unknown(Unknown),
}

impl Refusal {
    pub(super) fn new(class: Class, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            class,
            code: code.into(),
            message: message.into(),
            status: None,
            wait: None,
        }
    }

    /// Of an answer.
    pub(super) fn of(reply: &Reply, class: Class, code: impl Into<String>) -> Self {
        Self {
            class,
            code: code.into(),
            message: words(&reply.body),
            status: Some(reply.status),
            wait: None,
        }
    }

    pub(super) fn after(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Failure {
    pub(super) fn no_answer(message: impl Into<String>) -> Self {
        Self::Unknown(Unknown {
            code: "no_answer",
            message: message.into(),
            status: None,
        })
    }

    /// A failure of a call that creates nothing anybody sees, so that it may be repeated.
    pub(super) fn repeatable(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Unknown(unknown) => Refusal {
                class: Class::Transient,
                code: unknown.code.to_owned(),
                message: unknown.message,
                status: unknown.status,
                wait: None,
            },
        }
    }
}

/// No answer. Without a connection nothing was sent.
impl From<OutboundError> for Failure {
    fn from(error: OutboundError) -> Self {
        let message = error.to_string();
        match error {
            OutboundError::Unreachable(_) | OutboundError::Setup(_) => {
                Refusal::new(Class::Transient, "platform_unreachable", message).into()
            }
            OutboundError::TimedOut(_)
            | OutboundError::Silent(_)
            | OutboundError::NoAnswer(_)
            | OutboundError::Broken(_)
            | OutboundError::TooLarge(_) => Self::no_answer(message),
        }
    }
}

/// An answer whose status says all, on every platform. None: the platform's own codes decide.
pub(super) fn by_status(reply: &Reply) -> Option<Failure> {
    match reply.status {
        401 => Some(Refusal::of(reply, Class::Reauthorize, "token_refused").into()),
        429 => {
            let wait = outbound::retry_after(&reply.headers);
            let refusal = Refusal::of(reply, Class::Quota, "platform_quota");
            Some(
                refusal
                    .after(wait.unwrap_or(Duration::from_secs(900)))
                    .into(),
            )
        }
        // A version of the API that is switched off: the operator names another one, and the post is not to blame.
        426 => Some(Refusal::of(reply, Class::Transient, "platform_error").into()),
        _ if is_failure(reply) => Some(unknown(reply)),
        _ => None,
    }
}

/// An answer that comes also after the platform has done what it was asked for. Some proxies answer 408 after they have passed the
/// request on.
pub(super) fn is_failure(reply: &Reply) -> bool {
    matches!(reply.status, 408 | 500..)
}

/// An answer that does not say whether anything was created.
pub(super) fn unknown(reply: &Reply) -> Failure {
    Failure::Unknown(Unknown {
        code: "platform_error",
        message: words(&reply.body),
        status: Some(reply.status),
    })
}

/// Where platforms keep their words.
pub(super) fn words(body: &Value) -> String {
    let found = [
        "/error/error_user_msg",
        "/error/message",
        "/detail",
        "/errors/0/message",
        "/message",
        "/title",
    ];
    let text = found.iter().find_map(|it| body.pointer(it)?.as_str());
    text.unwrap_or_default().chars().take(1_000).collect()
}

//! Why a mail server did not take a mail, and what to do about it.

use kijko_core::jobs::Failure;

/// A step of the conversation, as logs and messages name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Connect,
    Encrypt,
    Login,
    Sender,
    Recipient,
    Data,
    /// The text was sent, or part of it.
    Text,
}

impl Step {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Encrypt => "starttls",
            Self::Login => "auth",
            Self::Sender => "mail_from",
            Self::Recipient => "rcpt_to",
            Self::Data => "data",
            Self::Text => "text",
        }
    }

    /// No mail has been mentioned yet, so the fault is none of a mail's.
    fn is_before_the_mail(self) -> bool {
        matches!(self, Self::Connect | Self::Encrypt | Self::Login)
    }
}

/// Why the server did not take a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unsent {
    pub step: Step,
    pub reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reason {
    /// The server's answer.
    Answer(u16),
    /// It does not do what the mail needs: STARTTLS, a login, addresses beyond ASCII.
    Unsupported(&'static str),
    /// No connection, a lost one, or something that is not SMTP. For the log only.
    Broken(String),
    /// It took too long.
    TimedOut,
    /// The job was cancelled, or another worker has it by now.
    Superseded,
    /// A fault of ours.
    Internal,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// The server refuses this mail: the end.
    Refused,
    /// The server asks to try this mail again, or the connection broke.
    Deferred,
    /// The server takes no mail of ours at present, whichever it is.
    Unavailable,
}

impl Unsent {
    pub(super) fn class(&self) -> Class {
        match self.reason {
            _ if self.step.is_before_the_mail() => Class::Unavailable,
            // It wants another login or encryption: no mail would be taken.
            Reason::Answer(530 | 534 | 535 | 538) => Class::Unavailable,
            Reason::Answer(code) if code >= 500 => Class::Refused,
            Reason::Unsupported(_) => Class::Refused,
            _ => Class::Deferred,
        }
    }

    /// A short name that does not change.
    pub(super) fn code(&self) -> &'static str {
        match (self.class(), &self.reason) {
            (Class::Refused, _) => "smtp_refused",
            (Class::Unavailable, Reason::Answer(_)) if self.step == Step::Connect => {
                "smtp_unreachable"
            }
            (Class::Unavailable, Reason::Answer(_)) => "smtp_auth",
            (_, Reason::Internal) => "internal",
            (_, Reason::TimedOut) => "smtp_timeout",
            (Class::Unavailable, _) if self.step == Step::Login => "smtp_auth",
            (Class::Unavailable, _) => "smtp_unreachable",
            (Class::Deferred, Reason::Answer(_)) => "smtp_deferred",
            (Class::Deferred, _) => "smtp_lost",
        }
    }

    /// In words, without the server's: those quote the address.
    pub(super) fn message(&self) -> String {
        let step = self.step.name();
        match &self.reason {
            Reason::Answer(code) => format!("the mail server answered {code} to {step}"),
            Reason::Unsupported(what) => format!("the mail server does not support {what}"),
            Reason::Broken(_) => format!("no answer of the mail server to {step}"),
            Reason::TimedOut => format!("no answer of the mail server to {step} in time"),
            Reason::Superseded => "another worker has the mail".to_owned(),
            Reason::Internal => Failure::internal().message,
        }
    }

    pub(super) fn smtp_code(&self) -> Option<u16> {
        match self.reason {
            Reason::Answer(code) => Some(code),
            _ => None,
        }
    }

    /// The text was handed over, and the server has answered that it does not take it.
    pub(super) fn is_answered(&self) -> bool {
        self.step == Step::Text && self.smtp_code().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(step: Step, reason: Reason) -> (Class, &'static str, bool) {
        let unsent = Unsent { step, reason };
        (unsent.class(), unsent.code(), unsent.is_answered())
    }

    #[test]
    fn an_answer_is_the_servers_before_the_mail_and_the_mails_after_it() {
        let answer = |step, code| at(step, Reason::Answer(code));
        for step in [Step::Connect, Step::Encrypt, Step::Login] {
            for code in [421, 454, 535, 554] {
                assert_eq!(answer(step, code).0, Class::Unavailable, "{step:?} {code}");
            }
        }
        for step in [Step::Sender, Step::Recipient, Step::Data] {
            assert_eq!(
                answer(step, 550),
                (Class::Refused, "smtp_refused", false),
                "{step:?}"
            );
            assert_eq!(
                answer(step, 451),
                (Class::Deferred, "smtp_deferred", false),
                "{step:?}"
            );
        }
        assert_eq!(
            answer(Step::Text, 554),
            (Class::Refused, "smtp_refused", true)
        );
        assert_eq!(
            answer(Step::Text, 452),
            (Class::Deferred, "smtp_deferred", true)
        );
    }

    #[test]
    fn a_server_that_wants_a_login_refuses_all_mails_and_not_this_one() {
        for code in [530, 534, 535, 538] {
            let found = at(Step::Sender, Reason::Answer(code));
            assert_eq!(found, (Class::Unavailable, "smtp_auth", false), "{code}");
        }
    }

    #[test]
    fn without_an_answer_nobody_knows_whether_the_text_was_taken() {
        for reason in [Reason::TimedOut, Reason::Broken("reset".to_owned())] {
            let (class, _, answered) = at(Step::Text, reason);
            assert_eq!((class, answered), (Class::Deferred, false));
        }
        assert_eq!(at(Step::Text, Reason::TimedOut).1, "smtp_timeout");
        assert_eq!(at(Step::Text, Reason::Broken(String::new())).1, "smtp_lost");
        assert_eq!(
            at(Step::Connect, Reason::Broken(String::new())).1,
            "smtp_unreachable"
        );
    }

    #[test]
    fn a_message_repeats_nothing_that_the_server_said() {
        let reason = Reason::Broken("no mail for <ada@example.com>".to_owned());
        let unsent = Unsent {
            step: Step::Recipient,
            reason,
        };
        assert!(!unsent.message().contains('@'));
    }
}

//! One mail over one connection, step by step, so that a failure says which step it was.
//!
//! A failure before the server has seen the mail (connecting, encryption, login) is the server's: nothing can be sent. A failure
//! from `MAIL` on is this mail's. From the moment the text is handed over until the answer, nobody can know whether the server
//! has taken it.

use std::time::Duration;

use kijko_core::{db::with_causes, jobs::Failure};
use lettre::{
    Address,
    address::Envelope,
    transport::smtp::{
        Error as SmtpError,
        authentication::{Credentials as LettreCredentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters},
        commands::{Data, Mail, Rcpt},
        extension::{ClientId, Extension, MailParameter},
        response::{Response, Severity},
    },
};

use super::{
    config::{Encryption, SmtpConfig},
    stream::StartTlsStream,
};

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

/// How to reach the server. A connection serves one mail.
#[derive(Clone)]
pub(super) struct Smtp {
    config: SmtpConfig,
    tls: Option<TlsParameters>,
    hello: ClientId,
}

impl Smtp {
    /// Fails when the certificates cannot be read.
    pub(super) fn new(config: SmtpConfig) -> Result<Self, SmtpError> {
        let tls = match config.encryption {
            Encryption::Off => None,
            _ => Some(tls_parameters(&config)?),
        };
        let hello = ClientId::Domain(config.from.email.domain().to_owned());
        Ok(Self { config, tls, hello })
    }

    pub(super) fn config(&self) -> &SmtpConfig {
        &self.config
    }

    /// Sends a mail; the code of the server's answer. `hand_over` is asked once the server is ready for the text, and says
    /// whether it may have it.
    pub(super) async fn send<F>(
        &self,
        envelope: &Envelope,
        text: &[u8],
        hand_over: impl FnOnce() -> F,
    ) -> Result<u16, Unsent>
    where
        F: Future<Output = Result<(), Reason>>,
    {
        let mut step = Step::Connect;
        let sending = self.converse(envelope, text, hand_over, &mut step);
        match tokio::time::timeout(self.config.total_timeout, sending).await {
            Ok(ended) => ended.map_err(|reason| Unsent { step, reason }),
            Err(_) => Err(Unsent {
                step,
                reason: Reason::TimedOut,
            }),
        }
    }

    async fn converse<F>(
        &self,
        envelope: &Envelope,
        text: &[u8],
        hand_over: impl FnOnce() -> F,
        step: &mut Step,
    ) -> Result<u16, Reason>
    where
        F: Future<Output = Result<(), Reason>>,
    {
        let mut server = self.connect(step).await?;
        *step = Step::Sender;
        let mut parameters = Vec::new();
        if !envelope.to().iter().chain(envelope.from()).all(is_ascii) {
            if !server
                .server_info()
                .supports_feature(Extension::SmtpUtfEight)
            {
                return Err(Reason::Unsupported("addresses beyond ASCII"));
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        positive(
            server
                .command(Mail::new(envelope.from().cloned(), parameters))
                .await,
        )?;
        *step = Step::Recipient;
        for to in envelope.to() {
            positive(server.command(Rcpt::new(to.clone(), Vec::new())).await)?;
        }
        *step = Step::Data;
        positive(server.command(Data).await)?;
        hand_over().await?;
        *step = Step::Text;
        let code = positive(server.message(text).await)?;
        // The mail is sent, whatever becomes of the connection.
        let _ = tokio::time::timeout(Duration::from_secs(1), server.quit()).await;
        Ok(code)
    }

    /// Connects and reads what the server offers.
    async fn greet(&self) -> Result<AsyncSmtpConnection, Reason> {
        let config = &self.config;
        let limit = config.connect_timeout;
        if matches!(
            config.encryption,
            Encryption::Required | Encryption::Optional
        ) {
            let connecting = StartTlsStream::connect(&config.host, config.port);
            let stream = match tokio::time::timeout(limit, connecting).await {
                Ok(connected) => connected.map_err(|error| Reason::Broken(with_causes(&error)))?,
                Err(_) => return Err(Reason::TimedOut),
            };
            let greeted =
                AsyncSmtpConnection::connect_with_transport(Box::new(stream), &self.hello);
            return greeted.await.map_err(reason);
        }
        let server = (config.host.as_str(), config.port);
        AsyncSmtpConnection::connect_tokio1(
            server,
            Some(limit),
            &self.hello,
            self.tls.clone(),
            None,
        )
        .await
        .map_err(reason)
    }

    async fn connect(&self, step: &mut Step) -> Result<AsyncSmtpConnection, Reason> {
        let config = &self.config;
        let mut server = match tokio::time::timeout(2 * config.connect_timeout, self.greet()).await
        {
            Ok(greeted) => greeted?,
            Err(_) => return Err(Reason::TimedOut),
        };
        *step = Step::Encrypt;
        let starttls = match config.encryption {
            Encryption::Wrapped | Encryption::Off => false,
            Encryption::Optional => server.can_starttls(),
            Encryption::Required if server.can_starttls() => true,
            Encryption::Required => return Err(Reason::Unsupported("STARTTLS")),
        };
        if let Some(tls) = self.tls.clone().filter(|_| starttls) {
            server.starttls(tls, &self.hello).await.map_err(reason)?;
        }
        *step = Step::Login;
        if let Some(credentials) = &config.credentials {
            if config.encryption == Encryption::Optional && !server.is_encrypted() {
                return Err(Reason::Unsupported(
                    "STARTTLS, without which it gets no password",
                ));
            }
            let credentials = LettreCredentials::new(
                credentials.user.clone(),
                credentials.password.expose().to_owned(),
            );
            positive(server.auth(DEFAULT_MECHANISMS, &credentials).await)?;
        }
        Ok(server)
    }
}

fn is_ascii(address: &Address) -> bool {
    AsRef::<str>::as_ref(address).is_ascii()
}

fn tls_parameters(config: &SmtpConfig) -> Result<TlsParameters, SmtpError> {
    let builder = TlsParameters::builder(config.host.clone());
    let Some(file) = &config.ca_file else {
        return builder.build();
    };
    // It was readable a moment ago; without a certificate every connection is refused.
    let pem = std::fs::read(file).unwrap_or_default();
    builder
        .certificate_store(CertificateStore::None)
        .add_root_certificate(Certificate::from_pem(&pem)?)
        .build()
}

/// A positive or intermediate answer's code. lettre makes errors of the others.
fn positive(answer: Result<Response, SmtpError>) -> Result<u16, Reason> {
    answer
        .map(|response| response.code().into())
        .map_err(reason)
}

fn reason(error: SmtpError) -> Reason {
    match error.status() {
        Some(code) if code.severity != Severity::PositiveCompletion => Reason::Answer(code.into()),
        _ if error.is_timeout() => Reason::TimedOut,
        _ if error.is_response() => Reason::Broken("an answer that is not SMTP".to_owned()),
        // Of the network or of TLS, so it quotes nothing of the mail.
        _ => Reason::Broken(with_causes(&error)),
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

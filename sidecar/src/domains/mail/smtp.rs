//! One mail over one connection, step by step, so that a failure says which step it was.
//!
//! A failure before the server has seen the mail (connecting, encryption, login) is the server's: nothing can be sent. A failure
//! from `MAIL` on is this mail's. From the moment the text is handed over until the answer, nobody can know whether the server
//! has taken it.

use std::time::Duration;

use kijko_core::db::with_causes;
use lettre::{
    Address,
    address::Envelope,
    transport::smtp::{
        Error as SmtpError,
        authentication::{Credentials as LettreCredentials, DEFAULT_MECHANISMS},
        client::{
            AsyncSmtpConnection, AsyncTokioStream, Certificate, CertificateStore, TlsParameters,
        },
        commands::{Data, Mail, Rcpt},
        extension::{ClientId, Extension, MailParameter},
        response::{Response, Severity},
    },
};

use super::{
    config::{Encryption, SmtpConfig},
    stream::{ServerStream, WrappedStream},
    unsent::{Reason, Step, Unsent},
};

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
        let connecting = ServerStream::connect(&config.host, config.port);
        let stream = match tokio::time::timeout(config.connect_timeout, connecting).await {
            Ok(connected) => connected.map_err(|error| Reason::Broken(with_causes(&error)))?,
            Err(_) => return Err(Reason::TimedOut),
        };
        let stream: Box<dyn AsyncTokioStream> = match (config.encryption, self.tls.clone()) {
            (Encryption::Wrapped, Some(tls)) => {
                Box::new(WrappedStream::wrap(stream, tls).await.map_err(reason)?)
            }
            (Encryption::Off, _) => Box::new(stream),
            _ => Box::new(stream.before_starttls()),
        };
        let greeted = AsyncSmtpConnection::connect_with_transport(stream, &self.hello);
        greeted.await.map_err(reason)
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

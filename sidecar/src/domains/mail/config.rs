//! The mail server and the sender: `SMTP_URL`, `KIJKO_MAIL_FROM` and the rest.

use std::{path::PathBuf, time::Duration};

use kijko_core::{config::Reader, outbound::Url, secret::Secret};
use lettre::message::Mailbox;

/// The settings of mail.
#[derive(Debug, Clone, Default)]
pub(super) struct MailConfig {
    /// `None` when `SMTP_URL` is not set: this worker sends no mails.
    pub server: Option<SmtpConfig>,
}

/// The mail server, and how to talk to it.
#[derive(Debug, Clone)]
pub(super) struct SmtpConfig {
    pub host: String,
    pub port: u16,
    pub encryption: Encryption,
    pub credentials: Option<Credentials>,
    /// Trusted instead of the system's certificates.
    pub ca_file: Option<PathBuf>,
    /// The sender of every mail.
    pub from: Mailbox,
    pub connect_timeout: Duration,
    /// For one mail, from connecting to the answer.
    pub total_timeout: Duration,
}

/// A login of the mail server.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    pub user: String,
    pub password: Secret,
}

/// When the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encryption {
    /// From the first byte: `smtps://`.
    Wrapped,
    /// By STARTTLS; a server without it gets no mail.
    Required,
    /// By STARTTLS if the server offers it. A password is sent only encrypted.
    Optional,
    /// Never, a password neither: for a relay on this machine.
    Off,
}

/// Longer than a mail may take: the queue ends an attempt after 300 seconds.
const MAX_TOTAL_SECONDS: u64 = 240;

impl MailConfig {
    pub(super) fn read(env: &mut Reader<'_>) -> Self {
        let starttls = starttls(env);
        let from = from(env);
        let ca_file = env.text("KIJKO_SMTP_CA_FILE").map(PathBuf::from);
        let connect_timeout = env.seconds("KIJKO_SMTP_CONNECT_TIMEOUT_SECONDS", 10, 1..=120);
        let total_timeout = env.seconds("KIJKO_SMTP_TIMEOUT_SECONDS", 60, 1..=MAX_TOTAL_SECONDS);
        let ca_file = ca_file.filter(|file| {
            let readable = std::fs::read(file).is_ok();
            if !readable {
                env.problem("KIJKO_SMTP_CA_FILE", "must be a file that can be read");
            }
            readable
        });
        let server = env.text("SMTP_URL").and_then(|text| {
            let Some((url, credentials)) = server_url(&text) else {
                env.problem(
                    "SMTP_URL",
                    "must be smtp:// or smtps://, then user:password@ if the server wants a login (percent-encoded), host and port",
                );
                return None;
            };
            if from.is_none() && env.text("KIJKO_MAIL_FROM").is_none() {
                env.problem("KIJKO_MAIL_FROM", "must be set with SMTP_URL");
            }
            let wrapped = url.scheme() == "smtps";
            Some(SmtpConfig {
                host: host(&url)?,
                port: url.port().unwrap_or(if wrapped { 465 } else { 587 }),
                encryption: if wrapped { Encryption::Wrapped } else { starttls },
                credentials,
                ca_file,
                from: from?,
                connect_timeout,
                total_timeout,
            })
        });
        Self { server }
    }
}

fn starttls(env: &mut Reader<'_>) -> Encryption {
    match env.text("KIJKO_SMTP_STARTTLS").as_deref() {
        None | Some("required") => Encryption::Required,
        Some("optional") => Encryption::Optional,
        Some("off") => Encryption::Off,
        Some(_) => {
            env.problem("KIJKO_SMTP_STARTTLS", "must be required, optional or off");
            Encryption::Required
        }
    }
}

fn from(env: &mut Reader<'_>) -> Option<Mailbox> {
    let text = env.text("KIJKO_MAIL_FROM")?;
    let mailbox = text
        .parse()
        .ok()
        .filter(|_| !text.contains(char::is_control));
    if mailbox.is_none() {
        env.problem(
            "KIJKO_MAIL_FROM",
            "must be an address, or a name and an address: Example <no-reply@example.com>",
        );
    }
    mailbox
}

fn server_url(text: &str) -> Option<(Url, Option<Credentials>)> {
    let url: Url = text.parse().ok()?;
    let plain = matches!(url.scheme(), "smtp" | "smtps")
        && matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.fragment().is_none()
        && url.port() != Some(0);
    host(&url).filter(|_| plain)?;
    let credentials = match (url.username(), url.password()) {
        ("", None) => None,
        ("", Some(_)) | (_, None) => return None,
        (user, Some(password)) => Some(Credentials {
            user: decoded(user)?,
            password: Secret::new(decoded(password)?),
        }),
    };
    Some((url, credentials))
}

/// Without the brackets of an IPv6 address.
fn host(url: &Url) -> Option<String> {
    let host = url.host_str()?.trim_matches(['[', ']']);
    (!host.is_empty()).then(|| host.to_owned())
}

fn decoded(text: &str) -> Option<String> {
    let text = percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .ok()?;
    (!text.contains(char::is_control)).then(|| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[(&str, &str)]) -> Result<Option<SmtpConfig>, Vec<String>> {
        let lookup = |name: &str| {
            let found = given.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let mut env = Reader::new(crate::app::SERVICE, &lookup);
        let config = MailConfig::read(&mut env);
        env.finish(Some(config))
            .map(|config| config.server)
            .map_err(|error| error.problems)
    }

    const FROM: (&str, &str) = ("KIJKO_MAIL_FROM", "Example <no-reply@example.com>");

    #[test]
    fn without_a_server_there_is_nothing_to_set() {
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&[FROM]).unwrap().is_none());
    }

    #[test]
    fn the_url_says_where_and_how() {
        let of = |url| read(&[("SMTP_URL", url), FROM]).unwrap().unwrap();
        let config = of("smtp://mail.example.com");
        assert_eq!(
            (config.host.as_str(), config.port, config.encryption),
            ("mail.example.com", 587, Encryption::Required)
        );
        let config = of("smtps://me%40example.com:p%2Fw@[::1]");
        assert_eq!(
            (config.host.as_str(), config.port, config.encryption),
            ("::1", 465, Encryption::Wrapped)
        );
        let credentials = config.credentials.unwrap();
        assert_eq!(credentials.user, "me@example.com");
        assert_eq!(credentials.password.expose(), "p/w");
        assert!(!format!("{credentials:?}").contains("p/w"));
        let off = read(&[
            ("SMTP_URL", "smtp://127.0.0.1:25"),
            FROM,
            ("KIJKO_SMTP_STARTTLS", "off"),
        ]);
        assert_eq!(off.unwrap().unwrap().encryption, Encryption::Off);
    }

    #[test]
    fn what_is_wrong_is_named_and_not_repeated() {
        for url in [
            "mail.example.com",
            "http://mail.example.com",
            "smtp://",
            "smtp://user@mail.example.com",
            "smtp://:hunter2@mail.example.com",
            "smtp://user:hunter2@mail.example.com/path",
            "smtp://user:hunter2@mail.example.com?tls=none",
            "smtp://user:a%0d%0ahunter2@mail.example.com",
        ] {
            let problems = read(&[("SMTP_URL", url), FROM]).unwrap_err();
            assert_eq!(problems.len(), 1, "{url}");
            assert!(problems[0].starts_with("SMTP_URL must be"), "{problems:?}");
            assert!(!problems[0].contains("hunter2"));
        }
        let problems = read(&[("SMTP_URL", "smtp://mail.example.com")]).unwrap_err();
        assert_eq!(problems, ["KIJKO_MAIL_FROM must be set with SMTP_URL"]);
        for from in ["nobody", "a@b\r\nBcc: c@d", "<a@b"] {
            assert!(read(&[("KIJKO_MAIL_FROM", from)]).is_err(), "{from}");
        }
    }
}

//! The mail as it is sent: headers and two bodies.

use std::time::{Duration, SystemTime};

use lettre::{
    Message,
    address::Envelope,
    message::{
        Mailbox, MultiPart,
        header::{Header, HeaderName, HeaderValue},
    },
};

use super::store::Mail;

/// Tells programs that answer mails by themselves not to answer this one (RFC 3834).
#[derive(Debug, Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// Envelope and text of a mail. `None` when its recipient is no address that a mail server could take.
///
/// Each attempt has the same Message-ID and Date, by which a mail program recognizes a duplicate.
pub(super) fn compose(from: &Mailbox, mail: &Mail) -> Option<(Envelope, Vec<u8>)> {
    let to = Mailbox::new(None, mail.recipient.parse().ok()?);
    let envelope = Envelope::new(Some(from.email.clone()), vec![to.email.clone()]).ok()?;
    let message = Message::builder()
        .from(from.clone())
        .to(to)
        // The database allows no control characters in it; a header has one line in any case.
        .subject(mail.subject.replace(char::is_control, " "))
        .date(SystemTime::UNIX_EPOCH + Duration::from_secs(mail.created))
        .message_id(Some(format!("<{}@{}>", mail.id, from.email.domain())))
        .header(AutoSubmitted)
        .multipart(MultiPart::alternative_plain_html(
            mail.text.clone(),
            mail.html.clone(),
        ))
        .ok()?;
    Some((envelope, message.formatted()))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn mail() -> Mail {
        Mail {
            id: Uuid::nil(),
            template: "invitation".to_owned(),
            recipient: "ada@example.com".to_owned(),
            subject: "Uitnodiging voor Café".to_owned(),
            text: "Hello\n\n.\n\nhttps://example.com/?token=1\n".to_owned(),
            html: "<p>Hello é</p>".to_owned(),
            created: 1_800_000_000,
        }
    }

    fn from() -> Mailbox {
        "Example <no-reply@example.com>".parse().unwrap()
    }

    fn text(mail: &Mail) -> String {
        String::from_utf8(compose(&from(), mail).unwrap().1).unwrap()
    }

    #[test]
    fn each_attempt_has_the_same_identity() {
        for text in [text(&mail()), text(&mail())] {
            for line in [
                "Message-ID: <00000000-0000-0000-0000-000000000000@example.com>\r\n",
                "Date: Fri, 15 Jan 2027 08:00:00 +0000\r\n",
                "Auto-Submitted: auto-generated\r\n",
                "To: ada@example.com\r\n",
                "MIME-Version: 1.0\r\n",
            ] {
                assert!(text.contains(line), "{line} is missing in\n{text}");
            }
            assert!(text.is_ascii(), "no server needs 8BITMIME for it");
        }
    }

    #[test]
    fn no_value_can_add_a_header_or_a_recipient() {
        let injected = text(&Mail {
            subject: "x\r\nBcc: eve@example.com\r\n\r\nhidden".to_owned(),
            ..mail()
        });
        assert!(!injected.contains("\nBcc:"), "{injected}");
        for recipient in [
            "ada@example.com\r\nBcc: eve@example.com",
            "ada@example.com, eve@example.com",
            "ada@example.com> RCPT TO:<eve@example.com",
            "Ada <ada@example.com>",
            "ada",
            "",
        ] {
            let mail = Mail {
                recipient: recipient.to_owned(),
                ..mail()
            };
            assert!(compose(&from(), &mail).is_none(), "{recipient}");
        }
    }
}

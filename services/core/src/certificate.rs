//! When the certificate of a server ends: shown to operators before clients are refused. Also that of an expired one, so nothing is
//! verified and nothing is sent.

use std::{
    io,
    net::{TcpStream, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConnection, pki_types::ServerName};

use crate::db::tls;

const TIMEOUT: Duration = Duration::from_secs(3);

/// Seconds since 1970 at which the certificate that `host:port` shows ends. Blocks for some seconds at most.
pub fn expiry(address: &str) -> io::Result<i64> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    let (host, _) = address.rsplit_once(':').ok_or_else(|| invalid("no port"))?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| invalid("no host"))?;
    let config = tls::unverified().map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let found = address
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| invalid("no address"))?;
    let mut socket = TcpStream::connect_timeout(&found, TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    let certificates = connection.peer_certificates().unwrap_or_default();
    let shown = certificates
        .first()
        .ok_or_else(|| invalid("no certificate"))?;
    not_after(shown).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no date"))
}

/// The end of a certificate's validity (RFC 5280): the second time of the sequence behind the issuer.
fn not_after(certificate: &[u8]) -> Option<i64> {
    const SEQUENCE: u8 = 0x30;
    let (tag, certificate, _) = element(certificate)?;
    let (inner, tbs, _) = element(certificate)?;
    if (tag, inner) != (SEQUENCE, SEQUENCE) {
        return None;
    }
    let (version, _, mut rest) = element(tbs)?;
    // Version 1 has no version. Then: serial number, algorithm, issuer.
    let skipped = if version == 0xa0 { 3 } else { 2 };
    for _ in 0..skipped {
        (_, _, rest) = element(rest)?;
    }
    let (_, validity, _) = element(rest)?;
    let (_, _, second) = element(validity)?;
    let (kind, time, _) = element(second)?;
    seconds(kind, std::str::from_utf8(time).ok()?)
}

/// Tag and content of a DER element, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits
                .iter()
                .fold(0, |sum, digit| sum << 8 | usize::from(*digit));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDHHMMSSZ` (UTCTime, from 1950 on) or `YYYYMMDDHHMMSSZ` (GeneralizedTime).
fn seconds(kind: u8, text: &str) -> Option<i64> {
    let digits = text.strip_suffix('Z')?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let (year, rest) = match (kind, digits.len()) {
        (0x17, 12) if is_number => {
            let year: i64 = digits[..2].parse().ok()?;
            (
                if year < 50 { 2000 + year } else { 1900 + year },
                &digits[2..],
            )
        }
        (0x18, 14) if is_number => (digits[..4].parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let part = |at: usize| rest[at..at + 2].parse::<i64>().ok();
    let (month, day) = (part(0)?, part(2)?);
    let time = part(4)? * 3600 + part(6)? * 60 + part(8)?;
    // Days since 1970 of a date in the Gregorian calendar, in years that begin in March.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_times_are_read() {
        for (kind, text, expected) in [
            (0x17, "700101000000Z", Some(0)),
            (0x17, "261129202500Z", Some(1_795_983_900)),
            (0x17, "491231235959Z", Some(2_524_607_999)),
            (0x17, "500101000000Z", Some(-631_152_000)),
            (0x18, "20500101000000Z", Some(2_524_608_000)),
            (0x18, "20280229120000Z", Some(1_835_438_400)),
            (0x17, "2611292025Z", None),
            (0x18, "2050010100000x Z", None),
            (0x02, "261129202500Z", None),
        ] {
            assert_eq!(seconds(kind, text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        for bytes in [
            &b""[..],
            b"\x30",
            b"\x30\x84\xff\xff\xff\xff",
            b"\x30\x02\x30\x00",
            &[0x30; 64],
        ] {
            assert_eq!(not_after(bytes), None, "{bytes:?}");
        }
    }
}

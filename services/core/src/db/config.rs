//! `DATABASE_URL`, with libpq's `sslmode`, `sslrootcert`, `sslcert` and `sslkey`.

use std::{path::PathBuf, time::Duration};

use tokio_postgres::config::SslMode;

use crate::config::Reader;

/// How to reach Postgres.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// Host, user, password and so on; its own `Debug` hides the password.
    pub postgres: tokio_postgres::Config,
    /// What TLS must prove.
    pub tls: Tls,
    /// Who this service is to the server, where that asks for certificates.
    pub identity: Option<Identity>,
    /// Connections in the pool; the listener holds one more.
    pub pool_size: usize,
    /// How long getting a connection, or one statement, may take.
    pub timeout: Duration,
}

/// What TLS must prove, in libpq's terms. Postgres itself defaults to `prefer`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// `disable` and `prefer`: TLS if the server has it, no certificate check.
    Opportunistic,
    /// `require`: always encrypted, but against anyone, as in libpq.
    Encrypted,
    /// `verify-ca` and `verify-full`: certificate and host name are checked against this file, or the system's roots.
    Verified(Option<PathBuf>),
}

/// A certificate of this service: files of PEM, as libpq's `sslcert` and `sslkey`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and those between it and the authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl DatabaseConfig {
    /// Reads the settings; None when there is no usable address.
    pub fn read(env: &mut Reader<'_>) -> Option<Self> {
        if env.text("DATABASE_URL").is_none() {
            env.problem(
                "DATABASE_URL",
                "is required: postgres://role:password@host:port/database",
            );
        }
        Self::optional(env, "DATABASE_URL", "KIJKO_DB_POOL_SIZE")
    }

    /// The same of a further login, by the names of its settings. None: it is not set, or wrong.
    pub fn optional(env: &mut Reader<'_>, url_name: &str, pool_size_name: &str) -> Option<Self> {
        let pool_size = env.number(pool_size_name, 8, 1..=200) as usize;
        let timeout = env.seconds("KIJKO_DB_TIMEOUT_SECONDS", 10, 1..=900);
        let url = env.text(url_name)?;
        match parse(&url) {
            Ok((postgres, tls, identity)) => Some(Self {
                postgres: with_defaults(postgres, timeout, env.service().name),
                tls,
                identity,
                pool_size,
                timeout,
            }),
            Err(what) => {
                env.problem(url_name, what);
                None
            }
        }
    }
}

type Parsed = (tokio_postgres::Config, Tls, Option<Identity>);

/// Splits off what is about TLS, which the driver knows only in part. No message repeats the URL: it holds the password.
fn parse(url: &str) -> Result<Parsed, &'static str> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err("must be a URL: postgres://role:password@host:port/database");
    }
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut mode, mut root, mut rest) = (None, None, Vec::new());
    let (mut certificate, mut key) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sslmode", value)) => mode = Some(value),
            Some(("sslrootcert", value)) => root = Some(PathBuf::from(value)),
            Some(("sslcert", value)) => certificate = Some(PathBuf::from(value)),
            Some(("sslkey", value)) => key = Some(PathBuf::from(value)),
            _ => rest.push(pair),
        }
    }
    let plain = if rest.is_empty() {
        base.to_owned()
    } else {
        format!("{base}?{}", rest.join("&"))
    };
    let mut postgres: tokio_postgres::Config = plain
        .parse()
        .map_err(|_| "is not a valid URL for Postgres; special characters in the password must be percent-encoded")?;
    let (ssl, tls) = tls_mode(mode, root)?;
    postgres.ssl_mode(ssl);
    if postgres.get_hosts().is_empty() {
        return Err("names no host");
    }
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
        (None, None) => None,
        _ => return Err("needs sslcert and sslkey together"),
    };
    // libpq would sign in without the certificate, and the server's refusal would not say why.
    if identity.is_some() && ssl == SslMode::Disable {
        return Err("has a certificate that sslmode=disable does not use");
    }
    Ok((postgres, tls, identity))
}

fn tls_mode(mode: Option<&str>, root: Option<PathBuf>) -> Result<(SslMode, Tls), &'static str> {
    match mode {
        Some("disable") => Ok((SslMode::Disable, Tls::Opportunistic)),
        None | Some("prefer") => Ok((SslMode::Prefer, Tls::Opportunistic)),
        Some("require") if root.is_none() => Ok((SslMode::Require, Tls::Encrypted)),
        // libpq: with a root certificate `require` means verify-ca; verify-ca without the host name is not offered.
        Some("require" | "verify-ca" | "verify-full") => {
            Ok((SslMode::Require, Tls::Verified(root)))
        }
        Some(_) => Err("has an unknown sslmode; use disable, prefer, require or verify-full"),
    }
}

/// A server that disappeared without closing its connection must be noticed in seconds, not after the kernel's two hours.
fn with_defaults(
    mut postgres: tokio_postgres::Config,
    timeout: Duration,
    name: &str,
) -> tokio_postgres::Config {
    if postgres.get_connect_timeout().is_none() {
        postgres.connect_timeout(timeout);
    }
    if postgres.get_tcp_user_timeout().is_none() {
        postgres.tcp_user_timeout(Duration::from_secs(15));
    }
    if postgres.get_application_name().is_none() {
        postgres.application_name(name);
    }
    postgres
        .keepalives_idle(Duration::from_secs(15))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3);
    postgres
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssl_modes_mean_what_they_mean_in_libpq() {
        let of = |query: &str| {
            parse(&format!("postgres://u:p@h:1/d{query}"))
                .map(|(config, tls, _)| (config.get_ssl_mode(), tls))
        };
        assert_eq!(of("").unwrap(), (SslMode::Prefer, Tls::Opportunistic));
        assert_eq!(
            of("?sslmode=disable").unwrap(),
            (SslMode::Disable, Tls::Opportunistic)
        );
        assert_eq!(
            of("?sslmode=require").unwrap(),
            (SslMode::Require, Tls::Encrypted)
        );
        assert_eq!(
            of("?sslmode=verify-full").unwrap(),
            (SslMode::Require, Tls::Verified(None))
        );
        let with_root = of("?sslmode=require&sslrootcert=/ca.pem").unwrap();
        assert_eq!(
            with_root,
            (SslMode::Require, Tls::Verified(Some("/ca.pem".into())))
        );
        assert!(of("?sslmode=allow").is_err());
    }

    #[test]
    fn a_certificate_has_a_key_and_tls() {
        let of = |query: &str| {
            parse(&format!("postgres://u:p@h:1/d{query}")).map(|(_, _, identity)| identity)
        };
        let both = of("?sslmode=verify-full&sslcert=/own.crt&sslkey=/own.key").unwrap();
        assert_eq!(
            both,
            Some(Identity {
                certificate: "/own.crt".into(),
                key: "/own.key".into()
            })
        );
        assert_eq!(of("?sslmode=require").unwrap(), None);
        assert!(of("?sslcert=/own.crt").is_err() && of("?sslkey=/own.key").is_err());
        assert!(of("?sslmode=disable&sslcert=/own.crt&sslkey=/own.key").is_err());
    }

    #[test]
    fn several_hosts_are_tried_for_the_primary() {
        let (config, ..) =
            parse("postgres://u:p@a:1,b:2/d?target_session_attrs=read-write").unwrap();
        assert_eq!(
            (config.get_hosts().len(), config.get_ports()),
            (2, &[1, 2][..])
        );
        assert_eq!(
            config.get_target_session_attrs(),
            tokio_postgres::config::TargetSessionAttrs::ReadWrite
        );
    }

    #[test]
    fn other_parameters_reach_the_driver() {
        let (config, ..) =
            parse("postgresql://u:p@h/d?sslmode=disable&application_name=mine&connect_timeout=3")
                .unwrap();
        assert_eq!(config.get_application_name(), Some("mine"));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
    }

    #[test]
    fn a_url_without_scheme_or_host_is_refused() {
        assert!(parse("host=localhost user=u password=p").is_err());
        assert!(parse("postgres:///d").is_err());
    }

    #[test]
    fn no_message_repeats_the_password() {
        let read = |url: &'static str| {
            let lookup = move |name: &str| (name == "DATABASE_URL").then(|| url.to_owned());
            let mut env = Reader::new(crate::Service::TEST, &lookup);
            let config = DatabaseConfig::read(&mut env);
            env.finish(config)
        };
        let good = read("postgres://user:hunter2@127.0.0.1:1/db").unwrap();
        assert_eq!(good.postgres.get_application_name(), Some("kijko-test"));
        assert!(!format!("{good:?}").contains("hunter2"));
        let bad = read("postgres://user:hunter2@host:port/db").unwrap_err();
        assert!(!bad.to_string().contains("hunter2"), "{bad}");
    }
}

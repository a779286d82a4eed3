//! TLS to Postgres with libpq's meanings: encrypt only, or verify.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    config::{Identity, Tls},
    error::DbError,
};

/// The TLS side of a connection; used only when `sslmode` asks for it.
pub fn connector(tls: &Tls, identity: Option<&Identity>) -> Result<MakeRustlsConnect, DbError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| DbError::Tls(error.to_string()))?;
    let builder = match tls {
        Tls::Verified(file) => builder.with_root_certificates(roots(file.as_deref())?),
        Tls::Opportunistic | Tls::Encrypted => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))),
    };
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (certificates, key) = own_certificate(identity)?;
            builder
                .with_client_auth_cert(certificates, key)
                .map_err(|error| {
                    DbError::Tls(format!(
                        "sslcert {}: {error}",
                        identity.certificate.display()
                    ))
                })?
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

/// Accepts any certificate: for those who look at it, and send nothing.
pub(crate) fn unverified() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    Ok(builder
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth())
}

type OwnCertificate = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Read again for each pool and session: a new certificate takes effect at the next start.
fn own_certificate(identity: &Identity) -> Result<OwnCertificate, DbError> {
    let Identity { certificate, key } = identity;
    let certificates = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| DbError::Tls(format!("sslcert {}: {error}", certificate.display())))?;
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| DbError::Tls(format!("sslkey {}: {error}", key.display())))?;
    Ok((certificates, key))
}

fn roots(file: Option<&std::path::Path>) -> Result<RootCertStore, DbError> {
    let mut store = RootCertStore::empty();
    let (added, source) = match file {
        Some(file) => {
            let certificates = CertificateDer::pem_file_iter(file)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| {
                    DbError::Tls(format!("sslrootcert {}: {error}", file.display()))
                })?;
            (
                store.add_parsable_certificates(certificates).0,
                file.display().to_string(),
            )
        }
        None => {
            let certificates = rustls_native_certs::load_native_certs().certs;
            (
                store.add_parsable_certificates(certificates).0,
                "the system's certificate store".to_owned(),
            )
        }
    };
    if added == 0 {
        return Err(DbError::Tls(format!("{source} holds no certificate")));
    }
    Ok(store)
}

/// libpq's `require`: the server proves that it holds its certificate's key, but any certificate will do.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_file_that_is_missing_or_empty_is_named() {
        let missing = connector(&Tls::Verified(Some("/nonexistent/ca.pem".into())), None)
            .err()
            .unwrap()
            .to_string();
        assert!(missing.contains("/nonexistent/ca.pem"), "{missing}");
        let empty = connector(&Tls::Verified(Some("/dev/null".into())), None)
            .err()
            .unwrap()
            .to_string();
        assert!(empty.contains("holds no certificate"), "{empty}");
    }

    #[test]
    fn the_modes_without_verification_need_no_roots() {
        assert!(
            connector(&Tls::Opportunistic, None).is_ok()
                && connector(&Tls::Encrypted, None).is_ok()
        );
    }

    #[test]
    fn a_certificate_or_key_that_is_missing_is_named() {
        let refused = |certificate: &str, key: &str| {
            let identity = Identity {
                certificate: certificate.into(),
                key: key.into(),
            };
            connector(&Tls::Encrypted, Some(&identity))
                .err()
                .unwrap()
                .to_string()
        };
        assert!(refused("/nonexistent/own.crt", "/dev/null").contains("sslcert /nonexistent"));
        assert!(refused("/dev/null", "/nonexistent/own.key").contains("sslkey /nonexistent"));
    }
}

//! TLS from files: the process's certificate and key, and the authorities of clients.
//!
//! Guarantees: the files are checked when the process starts and when it is asked to read them again. What cannot be used is
//! refused with the key of the configuration, and a process that runs keeps what it has. A connection keeps what it began
//! with. Left out on purpose: revocation lists.

use crate::{config_error::ConfigError, metrics, serve::ServeTlsSpec};
use std::{
    fmt::Display,
    fs, io,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
        server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
    },
    server::TlsStream,
};
use webpki::{EndEntityCert, KeyUsage};

/// How long the beginning of a connection may take.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// How long before its end a certificate is warned of.
const END_NEAR: Duration = Duration::from_hours(24 * 7);
/// A time after the end of every certificate: the last second of the year 9999.
const END_OF_TIME: u64 = 253_402_300_799;

/// What a client speaks in TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// The settings of new connections.
pub(super) struct Tls {
    spec: ServeTlsSpec,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// If one cannot be used.
    pub(super) fn read(spec: ServeTlsSpec) -> Result<Self, ConfigError> {
        let current = read(&spec)?.into();
        Ok(Self { spec, current })
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// If one cannot be used. Then everything stays as it is.
    pub(super) fn reload(&self) -> Result<(), ConfigError> {
        let new = read(&self.spec)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Whether clients need a certificate.
    pub(super) fn checks_clients(&self) -> bool {
        self.spec.client_ca.is_some()
    }

    /// Begins a connection.
    pub(super) async fn accept(&self, stream: TcpStream, protocol: Protocol) -> io::Result<TlsStream<TcpStream>> {
        let mut config = ServerConfig::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        config.alpn_protocols = vec![protocol.name().to_vec()];
        let accepted = TlsAcceptor::from(Arc::new(config)).accept(stream);
        tokio::time::timeout(HANDSHAKE_DEADLINE, accepted).await?
    }
}

fn read(spec: &ServeTlsSpec) -> Result<Arc<ServerConfig>, ConfigError> {
    let provider = Arc::new(ring::default_provider());
    let chain = certificates("serve.tls.certificate", &spec.certificate)?;
    let key = key(&spec.key)?;
    let verifier: Arc<dyn ClientCertVerifier> = match &spec.client_ca {
        None => Arc::new(NoClientAuth),
        Some(path) => client_verifier(path, &provider)?,
    };
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fault("serve.tls", error, "report this"))?
        .with_client_cert_verifier(verifier);
    let end = chain.first().and_then(end_of);
    let config = builder.with_single_cert(chain, key).map_err(|error| {
        let message = format!("{} does not fit {}: {error}", spec.key.display(), spec.certificate.display());
        ConfigError::new("serve.tls.key", message)
            .hint("name the key of the first certificate in serve.tls.certificate")
    })?;
    if let Some(end) = end {
        tell_end(&spec.certificate, end);
    }
    Ok(Arc::new(config))
}

fn fault(key: &str, error: impl Display, hint: &str) -> ConfigError {
    ConfigError::new(key, error.to_string()).hint(hint)
}

fn file(key: &str, path: &Path) -> Result<Vec<u8>, ConfigError> {
    let hint = "name a file in PEM format that this process may read";
    fs::read(path).map_err(|error| fault(key, format!("read {}: {error}", path.display()), hint))
}

fn certificates(name: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let bytes = file(name, path)?;
    let hint = "the file has one or more blocks BEGIN CERTIFICATE";
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|error| fault(name, format!("{}: {error}", path.display()), hint))?;
    if all.is_empty() {
        return Err(fault(name, format!("{} has no certificate", path.display()), hint));
    }
    Ok(all)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let name = "serve.tls.key";
    let bytes = file(name, path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        let message = format!("{} has no private key without a password", path.display());
        fault(name, message, "the file has a block BEGIN PRIVATE KEY")
    })
}

fn client_verifier(path: &Path, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, ConfigError> {
    let name = "serve.tls.client_ca";
    let mut roots = RootCertStore::empty();
    let refused = |error: &dyn Display| {
        fault(name, format!("{}: {error}", path.display()), "the file has the certificates of authorities")
    };
    for certificate in certificates(name, path)? {
        roots.add(certificate).map_err(|error| refused(&error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    verifier.map_err(|error| refused(&error))
}

/// When a certificate ends, in seconds since 1970. `None` if it cannot be read.
fn end_of(certificate: &CertificateDer<'_>) -> Option<u64> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let at = UnixTime::since_unix_epoch(Duration::from_secs(END_OF_TIME));
    // The times are checked before everything else, so that nothing else of the arguments matters.
    match certificate.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &[], &[], at, KeyUsage::server_auth(), None, None)
    {
        Err(webpki::Error::CertExpired { not_after, .. }) => Some(not_after.as_secs()),
        _ => None,
    }
}

/// Warns of a certificate that ends soon, and publishes when it ends.
fn tell_end(path: &Path, end: u64) {
    metrics::serve_certificate_end(end);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let path = path.display();
    if end <= now {
        tracing::warn!(%path, "the certificate has expired: replace the file, and send SIGHUP");
    } else if end - now < END_NEAR.as_secs() {
        let left = crate::duration::display(Duration::from_secs(end - now));
        tracing::warn!(%path, %left, "the certificate expires soon: replace the file, and send SIGHUP");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    fn written(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn files_that_cannot_be_used_are_refused_with_their_key() {
        let folder = tempfile::tempdir().unwrap();
        let keys = [KeyPair::generate().unwrap(), KeyPair::generate().unwrap()];
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&keys[0]).unwrap();
        let certificate = written(folder.path(), "certificate", &certificate.pem());
        let [key, other] =
            [0, 1].map(|index| written(folder.path(), &format!("key{index}"), &keys[index].serialize_pem()));
        let empty = written(folder.path(), "empty", "nothing");
        let absent = folder.path().join("absent");
        let refused = |certificate: &Path, key: &Path, client_ca: Option<&Path>| {
            let client_ca = client_ca.map(Path::to_owned);
            let spec = ServeTlsSpec { certificate: certificate.to_owned(), key: key.to_owned(), client_ca };
            Tls::read(spec).map(drop).unwrap_err()
        };
        for (error, key, message) in [
            (refused(&absent, &key, None), "serve.tls.certificate", "absent: No such file"),
            (refused(&empty, &key, None), "serve.tls.certificate", "empty has no certificate"),
            (refused(&certificate, &absent, None), "serve.tls.key", "absent: No such file"),
            (refused(&certificate, &empty, None), "serve.tls.key", "has no private key"),
            (refused(&certificate, &other, None), "serve.tls.key", "key1 does not fit"),
            (refused(&certificate, &key, Some(&empty)), "serve.tls.client_ca", "empty has no certificate"),
            (refused(&certificate, &key, Some(&absent)), "serve.tls.client_ca", "absent: No such file"),
        ] {
            assert_eq!(error.key, key);
            assert!(error.message.contains(message), "{key}: {}", error.message);
        }
        let spec = ServeTlsSpec { certificate, key, client_ca: None };
        assert!(Tls::read(spec).is_ok());
    }

    #[test]
    fn the_end_of_a_certificate_is_known_before_and_after_it() {
        let key = KeyPair::generate().unwrap();
        for (year, seconds) in [(2001, 978_307_200), (4000, 64_060_588_800)] {
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_before = date_time_ymd(2000, 1, 1);
            params.not_after = date_time_ymd(year, 1, 1);
            assert_eq!(end_of(params.self_signed(&key).unwrap().der()), Some(seconds), "{year}");
        }
        assert_eq!(end_of(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}

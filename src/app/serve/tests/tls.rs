//! TLS on both ports, with certificates made here.

use super::{LIMITS, Server, Tls, ask};
use crate::serve::ServeTlsSpec;
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use std::{
    net::TcpStream,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};

/// An authority, and the files of the certificates that it signed.
struct Authority {
    folder: TempDir,
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let it = Self { folder: tempfile::tempdir().unwrap(), certificate, issuer: Issuer::new(params, key) };
        std::fs::write(it.path("ca"), it.certificate.pem()).unwrap();
        it
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sign(&self) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Writes a new certificate of the process, and returns it.
    fn renew(&self) -> CertificateDer<'static> {
        let (certificate, key) = self.sign();
        std::fs::write(self.path("certificate"), certificate.pem()).unwrap();
        std::fs::write(self.path("key"), key.serialize_pem()).unwrap();
        certificate.der().clone()
    }

    fn spec(&self, client_ca: Option<PathBuf>) -> ServeTlsSpec {
        ServeTlsSpec { certificate: self.path("certificate"), key: self.path("key"), client_ca }
    }

    /// The settings of a client that trusts this authority. `own`: its certificate.
    fn client(&self, own: Option<(Certificate, KeyPair)>, protocol: &[u8]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    }
}

/// A connection on which the handshake is over, or why it is not.
fn connect(
    at: std::net::SocketAddr,
    config: Arc<ClientConfig>,
) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut client = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
    while client.is_handshaking() {
        client.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(client, stream))
}

fn shown(stream: &StreamOwned<ClientConnection, TcpStream>) -> CertificateDer<'static> {
    stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

#[test]
fn both_ports_speak_tls_and_a_new_certificate_is_for_new_connections() {
    let authority = Authority::new();
    let first = authority.renew();
    let tls = Tls::read(authority.spec(None)).unwrap();
    let server = Server::with_tls(LIMITS, None, true, Some(tls));
    let client = authority.client(None, b"http/1.1");
    let mut old = connect(server.address, Arc::clone(&client)).unwrap();
    assert_eq!(ask(&mut old, "GET", "/livez", "", "").status, 200);
    assert_eq!((shown(&old), old.conn.alpn_protocol()), (first.clone(), Some(&b"http/1.1"[..])));
    let grpc = connect(server.grpc, authority.client(None, b"h2")).unwrap();
    assert_eq!((shown(&grpc), grpc.conn.alpn_protocol()), (first.clone(), Some(&b"h2"[..])));
    assert!(connect(server.grpc, authority.client(None, b"http/1.1")).is_err(), "gRPC is HTTP/2 alone");

    // A key without its certificate changes nothing.
    let tls = server.shared.tls.as_ref().unwrap();
    let other = KeyPair::generate().unwrap();
    std::fs::write(authority.path("key"), other.serialize_pem()).unwrap();
    assert_eq!(tls.reload().unwrap_err().key, "serve.tls.key");
    assert_eq!(shown(&connect(server.address, Arc::clone(&client)).unwrap()), first);
    let second = authority.renew();
    tls.reload().unwrap();
    let mut new = connect(server.address, client).unwrap();
    assert_eq!(ask(&mut new, "GET", "/livez", "", "").status, 200);
    assert_eq!(shown(&new), second);
    assert_ne!(first, second);
    assert_eq!(ask(&mut old, "GET", "/livez", "", "").status, 200, "an open connection stays");
}

#[test]
fn clients_need_a_certificate_of_their_authority() {
    let (authority, clients) = (Authority::new(), Authority::new());
    authority.renew();
    let tls = Tls::read(authority.spec(Some(clients.path("ca")))).unwrap();
    assert!(tls.checks_clients());
    let server = Server::with_tls(LIMITS, None, true, Some(tls));
    let asked = |own| {
        // A client learns that its certificate is refused when it reads.
        let mut stream = connect(server.address, authority.client(own, b"http/1.1")).ok()?;
        std::io::Write::write_all(&mut stream, b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap_or_default();
        answer.split(' ').nth(1).map(str::to_owned)
    };
    assert_eq!(asked(Some(clients.sign())).as_deref(), Some("200"));
    assert_eq!(asked(Some(authority.sign())), None, "of another authority");
    assert_eq!(asked(None), None);
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.shared.figures.connections() > 0 {
        assert!(Instant::now() < deadline, "refused connections keep their places");
        std::thread::yield_now();
    }
}

#[test]
fn a_connection_that_does_not_begin_tls_ends() {
    let authority = Authority::new();
    authority.renew();
    let server = Server::with_tls(LIMITS, None, true, Some(Tls::read(authority.spec(None)).unwrap()));
    let mut plain = server.connect();
    std::io::Write::write_all(&mut plain, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut plain, &mut answer).unwrap_or_default();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

//! Why a broker's certificate is refused, and the same for other servers.
//!
//! librdkafka says no more than that a certificate could not be verified. So this shakes hands once more, with a library that
//! gives the reason. Limits: one connection, for at most [`DEADLINE`]; it sends nothing, and decides nothing.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, ClientConnection, Error, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

/// How long the connection may take.
const DEADLINE: Duration = Duration::from_secs(3);

/// Where systems keep the authorities that they trust; librdkafka looks there as well.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What is wrong with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Its authority is not trusted.
    UnknownAuthority,
    /// It is for other names.
    OtherName(Vec<String>),
    /// It has expired.
    Expired,
    /// It is not valid yet.
    Early,
}

impl Fault {
    /// What to do about it.
    pub(super) fn next_step(&self) -> &'static str {
        match self {
            Self::UnknownAuthority => {
                "set \"ssl.ca.location\" in [kafka.client] to the file with the authority of the brokers' certificates"
            }
            Self::OtherName(_) => {
                "have it issued for this name, or use one of its names in kafka.brokers and in the brokers' advertised.listeners"
            }
            Self::Expired => "have the broker's certificate renewed",
            Self::Early => "compare the clock of this machine with that of the authority",
        }
    }
}

impl Fault {
    /// What is wrong with a certificate, if this is about one.
    pub(crate) fn of(error: &Error) -> Option<Self> {
        of(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownAuthority => f.write_str("comes from an authority that this program does not trust"),
            Self::OtherName(names) if names.is_empty() => f.write_str("is not for this name"),
            Self::OtherName(names) => write!(f, "is not for this name but for {}", names.join(", ")),
            Self::Expired => f.write_str("has expired"),
            Self::Early => f.write_str("is not valid yet"),
        }
    }
}

/// What is wrong with the certificate of the broker at this address; `None` if that cannot be found out.
pub(super) fn fault(broker: &str, settings: &[(String, String)]) -> Option<Fault> {
    let (host, _) = broker.rsplit_once(':')?;
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).ok()?;
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    let config = config.with_root_certificates(trusted(settings)).with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), name).ok()?;
    let address = broker.to_socket_addrs().ok()?.next()?;
    let until = Instant::now() + DEADLINE;
    let mut stream = Limited { stream: TcpStream::connect_timeout(&address, DEADLINE).ok()?, until };
    while connection.is_handshaking() {
        if let Err(error) = connection.complete_io(&mut stream) {
            return of(error.get_ref()?.downcast_ref::<Error>()?);
        }
    }
    None
}

/// A connection that ends at a moment, however slowly the other side sends.
struct Limited {
    stream: TcpStream,
    until: Instant,
}

impl Limited {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Limited {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(to)
    }
}

impl Write for Limited {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// The file with the authorities that this system trusts.
pub(crate) fn system() -> Option<&'static Path> {
    SYSTEM.iter().map(Path::new).find(|path| path.exists())
}

fn of(error: &Error) -> Option<Fault> {
    let Error::InvalidCertificate(error) = error else { return None };
    match error {
        // An authority with the name of a trusted one, and another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Some(Fault::UnknownAuthority),
        CertificateError::NotValidForName => Some(Fault::OtherName(Vec::new())),
        CertificateError::NotValidForNameContext { presented, .. } => {
            // They come as `DnsName("kafka.example")`.
            let plain = |name: &String| name.split('"').nth(1).unwrap_or(name).to_owned();
            Some(Fault::OtherName(presented.iter().map(plain).collect()))
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Some(Fault::Expired),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Some(Fault::Early),
        _ => None,
    }
}

/// The authorities that these settings trust.
fn trusted(settings: &[(String, String)]) -> RootCertStore {
    let setting =
        |wanted: &str| settings.iter().rev().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let mut store = RootCertStore::empty();
    let mut add = |pem: &[u8]| store.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).flatten());
    if let Some(pem) = setting("ssl.ca.pem") {
        add(pem.as_bytes());
        return store;
    }
    let location = setting("ssl.ca.location").filter(|location| *location != "probe").map(Path::new);
    let files = match location {
        Some(folder) if folder.is_dir() => {
            let entries = folder.read_dir().into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).collect()
        }
        Some(file) => vec![file.to_owned()],
        None => system().map(Path::to_owned).into_iter().collect(),
    };
    for pem in files.iter().filter_map(|file| std::fs::read(file).ok()) {
        add(&pem);
    }
    store
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use std::net::TcpListener;
    use tokio_rustls::rustls::{
        ServerConfig, ServerConnection,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    };

    /// The authority's certificate, and the address of a server whose certificate is for this name and ends in this year.
    fn server(name: &str, until: i32) -> (String, String) {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = authority.self_signed(&key).unwrap().pem();
        let authority = Issuer::new(authority, key);
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = Arc::new(config.with_single_cert(vec![certificate.der().clone()], key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                while connection.is_handshaking() && connection.complete_io(&mut stream).is_ok() {}
                stream.flush().unwrap_or_default();
            }
        });
        (pem, address)
    }

    #[test]
    fn each_fault_of_a_certificate_is_told_from_the_others() {
        let trusting = |pem: &str| vec![("ssl.ca.pem".to_owned(), pem.to_owned())];
        let (own, address) = server("127.0.0.1", 2_100);
        assert_eq!(fault(&address, &trusting(&own)), None);
        let (other, _) = server("127.0.0.1", 2_100);
        assert_eq!(fault(&address, &trusting(&other)), Some(Fault::UnknownAuthority));
        let (own, address) = server("kafka.example", 2_100);
        let told = fault(&address, &trusting(&own)).unwrap();
        assert_eq!(told, Fault::OtherName(vec!["kafka.example".to_owned()]), "{told}");
        let (own, address) = server("127.0.0.1", 2_021);
        assert_eq!(fault(&address, &trusting(&own)), Some(Fault::Expired));
        assert_eq!(fault("127.0.0.1:1", &trusting(&own)), None);
    }

    #[test]
    fn a_server_that_sends_slowly_does_not_keep_the_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut slow, _) = listener.accept().unwrap();
        std::thread::spawn(move || {
            while slow.write_all(b".").is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let mut limited = Limited { stream, until: Instant::now() + Duration::from_millis(100) };
        // Without the limit, this would never end.
        while limited.read(&mut [0]).is_ok() {}
    }
}

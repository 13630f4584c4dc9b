//! `aimpoint serve` as a process, on the embedded broker: SIGHUP.

use aimpoint::sink::EmbeddedBroker;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};

const OLD: &str = "0123456789abcdef";
const NEW: &str = "fedcba9876543210";
const PATIENCE: Duration = Duration::from_mins(1);

/// A process, killed when dropped.
struct Serve {
    child: Child,
    port: u16,
    client: Arc<ClientConfig>,
}

impl Drop for Serve {
    fn drop(&mut self) {
        // It may have ended already.
        drop((self.child.kill(), self.child.wait()));
    }
}

impl Serve {
    /// The certificate that the process shows, the status of an answer, and its body; `None` if nobody answers.
    fn ask(&self, path: &str, token: &str) -> Option<(CertificateDer<'static>, u16, String)> {
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::clone(&self.client), name).unwrap();
        let stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        let mut stream = StreamOwned::new(connection, stream);
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        // The process may close without a word after its answer.
        stream.read_to_end(&mut answer).unwrap_or_default();
        let answer = String::from_utf8(answer).unwrap();
        let shown = stream.conn.peer_certificates()?.first()?.clone().into_owned();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((shown, head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// What somebody with this token gets about a user.
    fn status(&self, token: &str) -> Option<u16> {
        self.ask("/v1/decisions/nobody", token).map(|(_, status, _)| status)
    }

    fn hang_up(&self) {
        assert!(Command::new("kill").arg("-HUP").arg(self.child.id().to_string()).status().unwrap().success());
    }
}

fn wait_for(what: &str, log: &Path, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        let said = std::fs::read_to_string(log).unwrap_or_default();
        assert!(begun.elapsed() < PATIENCE, "waited for {what}: {said}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn sighup_makes_serve_read_certificate_and_tokens_again_and_keep_them_if_they_are_faulty() {
    let broker = EmbeddedBroker::start(&[("decisions", 1)]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let authority = {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap(), Issuer::new(params, key))
    };
    let renew = || {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority.1).unwrap();
        std::fs::write(path("tls.crt"), certificate.pem()).unwrap();
        std::fs::write(path("tls.key"), key.serialize_pem()).unwrap();
        certificate.der().clone()
    };
    let first = renew();
    std::fs::write(path("token"), OLD).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "[serve]\naddress = \"127.0.0.1:{port}\"\ntoken_file = \"token\"\n\
         tls = {{ certificate = \"tls.crt\", key = \"tls.key\" }}\n[admin]\naddress = \"127.0.0.1:0\"\n"
    );
    std::fs::write(path("aimpoint.toml"), config).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let log = path("log");
    let child = Command::new(env!("CARGO_BIN_EXE_aimpoint"))
        .args(["serve", "--set", &format!("kafka.brokers={}", broker.brokers()), "--config"])
        .arg(path("aimpoint.toml"))
        .env_remove("AIMPOINT_LOG")
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let serve = Serve { child, port, client: Arc::new(client) };
    let shown = || serve.ask("/livez", OLD).map(|(certificate, ..)| certificate);

    wait_for("the process to answer", &log, || serve.status(OLD) == Some(404));
    assert_eq!((serve.status(NEW), shown()), (Some(401), Some(first.clone())));
    // Both are there to be read, and nothing changes until the process is told.
    let second = renew();
    std::fs::write(path("token"), format!("{OLD}\n{NEW}\n")).unwrap();
    assert_eq!((serve.status(NEW), shown()), (Some(401), Some(first)));
    serve.hang_up();
    wait_for("the new certificate and token", &log, || {
        shown() == Some(second.clone()) && serve.status(NEW) == Some(404)
    });
    assert_eq!(serve.status(OLD), Some(404), "bidders change one after the other");
    std::fs::write(path("token"), NEW).unwrap();
    serve.hang_up();
    wait_for("the old token to be refused", &log, || serve.status(OLD) == Some(401));

    // A key of another certificate, and no token: both stay as they are.
    std::fs::write(path("tls.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    std::fs::write(path("token"), "short").unwrap();
    serve.hang_up();
    let refused = || {
        let (.., metrics) = serve.ask("/metrics", NEW)?;
        metrics.lines().any(|line| line == "aimpoint_reloads_total{outcome=\"refused\"} 1").then_some(())
    };
    wait_for("the refusal", &log, || refused().is_some());
    assert_eq!((serve.status(NEW), shown()), (Some(404), Some(second)));
    let said = std::fs::read_to_string(&log).unwrap();
    for part in ["serve.tls.key", "serve.token_file", "repair the file, and send SIGHUP again"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

/// The head of an answer in plain text; empty if nobody answers.
fn head(port: u16, path: &str) -> String {
    let mut answer = String::new();
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return answer };
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    if stream.write_all(request.as_bytes()).is_ok() {
        stream.read_to_string(&mut answer).unwrap_or_default();
    }
    answer
}

#[test]
fn probes_are_answered_before_a_broker_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let (config, log) = (folder.path().join("aimpoint.toml"), folder.path().join("log"));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    std::fs::write(&config, format!("[serve]\naddress = \"127.0.0.1:{port}\"\n[admin]\naddress = \"127.0.0.1:0\"\n"))
        .unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_aimpoint"))
        .args(["serve", "--set", "kafka.brokers=127.0.0.1:1", "--config"])
        .arg(&config)
        .env_remove("AIMPOINT_LOG")
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let serve = Serve { child, port, client: Arc::new(client) };
    wait_for("the process to say that it is not ready", &log, || head(port, "/readyz").starts_with("HTTP/1.1 503 "));
    assert!(head(port, "/livez").starts_with("HTTP/1.1 200 "));
    drop(serve);
}

#[test]
fn a_file_that_is_not_a_snapshot_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("aimpoint.toml");
    let text = "[serve]\nsnapshot = \"aimpoint.toml\"\n[admin]\naddress = \"127.0.0.1:0\"\n";
    std::fs::write(&config, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_aimpoint"))
        .args(["serve", "--set", "kafka.brokers=127.0.0.1:1", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("there is a file that is not a snapshot"), "{said}");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), text);
}

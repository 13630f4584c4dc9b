//! The connection to a language model: HTTP to an OpenAI-compatible server, with TLS if the address begins with https.
//!
//! Guarantees: a request ends within its timeout, an answer has at most 4 MiB, and the key is never printed. A certificate is
//! always checked, and its fault is named with the next step. Limits: no certificate of the client, and no proxy.

use crate::{
    cli::Exit,
    content::writing::{Response, Transport, TransportError},
    kafka::certificate::{self, Fault},
    secret::Secret,
};
use anyhow::Context;
use std::{fs, path::Path, sync::Arc, time::Duration};
use tokio_rustls::rustls;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// The environment variable with the key.
pub(super) const KEY: &str = "AIMPOINT_CONTENT_KEY";
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// A server.
#[derive(Debug)]
pub(super) struct Client {
    agent: ureq::Agent,
    url: String,
    key: Option<Secret>,
    timeout: Duration,
}

impl Client {
    /// The server at `url`, such as `http://127.0.0.1:8000/v1`. `ca`: the file with the authorities to trust instead of those
    /// of the system.
    pub(super) fn new(url: &str, key: Option<Secret>, timeout: Duration, ca: Option<&Path>) -> anyhow::Result<Self> {
        let is_tls = url.starts_with("https://");
        if !is_tls && !url.starts_with("http://") {
            return Err(Exit::Usage.because(format!("--url {url:?}: expected http:// or https://")));
        }
        if let (false, Some(ca)) = (is_tls, ca) {
            let message = format!("--ca {}: {url} has no certificate to check; write https://", ca.display());
            return Err(Exit::Usage.because(message));
        }
        let config = ureq::Agent::config_builder();
        let config = config.timeout_global(Some(timeout)).proxy(None).max_redirects(0).http_status_as_error(false);
        let config = if is_tls { config.tls_config(tls(ca)?) } else { config };
        let url = format!("{}/chat/completions", url.trim_end_matches('/').trim_end_matches("/chat/completions"));
        Ok(Self { agent: config.build().into(), url, key, timeout })
    }

    /// The key from a file, or from the environment.
    pub(super) fn key(file: Option<&Path>) -> anyhow::Result<Option<Secret>> {
        let key = match file {
            Some(path) => Some(Secret::read(path).with_context(|| format!("read the key {}", path.display()))?),
            None => std::env::var(KEY).ok().map(|text| Secret::new(text.trim())),
        };
        Ok(key.filter(|key| !key.reveal().is_empty()))
    }

    fn failed(&self, doing: &str, error: &ureq::Error) -> TransportError {
        let (url, timeout) = (&self.url, crate::duration::display(self.timeout));
        TransportError(match error {
            ureq::Error::Timeout(_) => {
                format!("{doing} {url}: no answer within {timeout}; raise --timeout, or choose a smaller model")
            }
            error => match rustls_error(error) {
                Some(error) => format!("{doing} {url}: {}", tls_fault(error)),
                None => format!("{doing} {url}: {error}; is the server running?"),
            },
        })
    }
}

/// The authorities of this file, else of the system.
fn tls(ca: Option<&Path>) -> anyhow::Result<TlsConfig> {
    let system = certificate::system();
    let Some(path) = ca.or(system) else {
        let message = "this system has no file of trusted certificates; install the package ca-certificates, or name the \
                       authority of the server with --ca";
        return Err(Exit::System.because(message));
    };
    let shown = path.display();
    let pem = fs::read(path).with_context(|| format!("read the authorities {shown}"))?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        let message = format!("read the authorities {shown}: expected certificates in PEM, found none");
        return Err(Exit::Data.because(message));
    }
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let roots = RootCerts::new_with_certs(&certificates);
    Ok(TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(crypto).build())
}

/// The error of TLS behind a failed request.
fn rustls_error(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

fn tls_fault(error: &rustls::Error) -> String {
    let Some(fault) = Fault::of(error) else {
        return match error {
            rustls::Error::InvalidMessage(_) => "the server does not speak TLS there; write http://".to_owned(),
            error => format!("the connection cannot be encrypted: {error}"),
        };
    };
    let next = match fault {
        Fault::UnknownAuthority => "if it is your own, name its authority with --ca",
        Fault::OtherName(_) => "use one of its names in --url, or have it issued for this one",
        Fault::Expired => "have it renewed",
        Fault::Early => "compare the clock of this machine with that of the authority",
    };
    format!("the server's certificate {fault}; {next}")
}

impl Transport for Client {
    fn post(&mut self, body: &[u8]) -> Result<Response, TransportError> {
        let mut request = self.agent.post(&self.url).header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {}", key.reveal()));
        }
        let mut answer = request.send(body).map_err(|error| self.failed("ask", &error))?;
        let seconds = answer.headers().get("retry-after").and_then(|it| it.to_str().ok()?.trim().parse().ok());
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| self.failed("read the answer of", &error))?;
        Ok(Response { status, retry_after: seconds.map(Duration::from_secs), body })
    }

    fn wait(&mut self, time: Duration) {
        std::thread::sleep(time);
    }
}

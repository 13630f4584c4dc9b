//! The connection to a language model: plain HTTP to an OpenAI-compatible server.
//!
//! Guarantees: a request ends within its timeout, an answer has at most 4 MiB, and the key is never printed. Limits: no
//! TLS, so a hosted service is reached through a local proxy that adds it.

use crate::{
    cli::Exit,
    content::writing::{Response, Transport, TransportError},
    secret::Secret,
};
use anyhow::Context;
use std::{path::Path, time::Duration};

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
    /// The server at `url`, such as `http://127.0.0.1:8000/v1`.
    pub(super) fn new(url: &str, key: Option<Secret>, timeout: Duration) -> anyhow::Result<Self> {
        if !url.starts_with("http://") {
            let message = format!(
                "--url {url:?}: expected http://; this program has no TLS here, so reach a hosted service through a local proxy"
            );
            return Err(Exit::Usage.because(message));
        }
        let config = ureq::Agent::config_builder();
        let config = config.timeout_global(Some(timeout)).proxy(None).max_redirects(0).http_status_as_error(false);
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
            error => format!("{doing} {url}: {error}; is the server running?"),
        })
    }
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

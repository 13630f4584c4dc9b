//! The paths of the admin port: access checks and responses.

use super::{
    AdminState,
    server::{ANSWERING_MAX, BODY_DEADLINE, Place},
};
use crate::status::RoleName;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{
    net::IpAddr,
    sync::{Arc, PoisonError},
    time::Duration,
};

/// How long a client waits for the outcome of `POST /reload`: less than the limit of its connection.
const RELOAD_WAIT: Duration = Duration::from_secs(8);

/// The longest body that is read: a log filter.
pub(super) const BODY_BYTES_MAX: usize = 4 << 10;

/// What the page may load: its own files only.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) const PAGE: &str = include_str!("../page/index.html");
pub(super) const CONTROL_PAGE: &str = include_str!("../page/control.html");
const STYLE: &str = include_str!("../page/page.css");
/// Serve has no page: its figures are for dashboards.
const SERVE_PAGE: &str = "aimpoint serve has no page; see /snapshot, /readyz and /metrics\n";
/// What both pages have in common.
pub(super) const COMMON: &str = include_str!("../page/common.js");
pub(super) const SCRIPT: &str = include_str!("../page/page.js");
pub(super) const CONTROL_SCRIPT: &str = include_str!("../page/control.js");

impl AdminState {
    /// Why this client may not request more than the page's files and the probes, if so.
    fn refuse(&self, request: &Request<Incoming>, peer: IpAddr) -> Option<(StatusCode, &'static str)> {
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        if let Some(expected) = &self.token {
            let given = header(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
            // Comparing hashes rather than tokens prevents timing attacks.
            return match given.map(|token| <[u8; 32]>::from(Sha256::digest(token))) {
                Some(given) if given == *expected => None,
                _ => Some((StatusCode::UNAUTHORIZED, "this needs the token: Authorization: Bearer <admin.token>\n")),
            };
        }
        let host = header(header::HOST).unwrap_or_default();
        let host = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if peer.is_loopback() && host != "localhost" && host.parse::<IpAddr>().is_err() {
            return Some((StatusCode::FORBIDDEN, "use the server's address, or set admin.token\n"));
        }
        None
    }

    pub(super) async fn answer(&self, request: Request<Incoming>, peer: IpAddr, place: &Place) -> Answer {
        let path = request.uri().path().to_owned();
        let get = matches!(*request.method(), Method::GET | Method::HEAD);
        match (path.as_str(), get) {
            ("/", true) => {
                return match self.role().map(|role| role.name()) {
                    None => answer(StatusCode::OK, HTML, PAGE),
                    Some(RoleName::Control) => answer(StatusCode::OK, HTML, CONTROL_PAGE),
                    Some(RoleName::Serve) => answer(StatusCode::OK, TEXT, SERVE_PAGE),
                };
            }
            ("/page.css", true) => return answer(StatusCode::OK, "text/css; charset=utf-8", STYLE),
            ("/common.js", true) => return answer(StatusCode::OK, SCRIPT_TYPE, COMMON),
            ("/page.js", true) => return answer(StatusCode::OK, SCRIPT_TYPE, SCRIPT),
            ("/control.js", true) => return answer(StatusCode::OK, SCRIPT_TYPE, CONTROL_SCRIPT),
            ("/healthz", true) => {
                let is_alive = self.is_alive();
                let status = if is_alive { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                return answer(status, TEXT, if is_alive { "alive\n" } else { "a worker is blocked\n" });
            }
            ("/readyz", true) => {
                let reasons = self.reasons(&self.status().0);
                return if reasons.is_empty() {
                    answer(StatusCode::OK, TEXT, self.ready_as())
                } else {
                    answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, reasons.join("\n") + "\n")
                };
            }
            _ => {}
        }
        if let Some((status, why)) = self.refuse(&request, peer) {
            return answer(status, TEXT, why);
        }
        if !place.enter() {
            let full = format!("{ANSWERING_MAX} requests are in progress; try again in a moment\n");
            let mut full = answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, full);
            full.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            return full;
        }
        if path == "/erase" {
            return self.answer_erase(request).await;
        }
        if path == "/reload" {
            return self.answer_reload(request.method()).await;
        }
        match (path.as_str(), get, request.method() == Method::PUT) {
            ("/metrics", true, _) => {
                answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.prometheus())
            }
            ("/snapshot", true, _) => {
                let page = self.role().map_or_else(|| self.page(), |role| self.role_page(&role));
                answer(StatusCode::OK, JSON, page.to_string())
            }
            ("/version", true, _) => answer(
                StatusCode::OK,
                JSON,
                json!({ "name": "aimpoint", "version": env!("CARGO_PKG_VERSION") }).to_string(),
            ),
            ("/config", true, _) => {
                let config = self.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
                answer(StatusCode::OK, JSON, format!("{config:#}\n"))
            }
            ("/log", true, _) => {
                answer(StatusCode::OK, TEXT, self.logs.as_ref().map_or(String::new(), |logs| logs.filter() + "\n"))
            }
            ("/log", _, true) if self.token.is_none() => answer(
                StatusCode::FORBIDDEN,
                TEXT,
                "a change of the log filter needs a token: set admin.token (AIMPOINT__ADMIN__TOKEN) and send Authorization: Bearer \
                 <admin.token>; without one, set log.filter and send SIGHUP on this machine\n",
            ),
            ("/log", _, true) => self.set_log(request).await,
            (
                "/" | "/page.css" | "/common.js" | "/page.js" | "/control.js" | "/healthz" | "/readyz" | "/metrics"
                | "/snapshot" | "/version" | "/config" | "/log",
                ..,
            ) => answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "use GET\n"),
            _ => answer(StatusCode::NOT_FOUND, TEXT, "not found; see /\n"),
        }
    }

    async fn set_log(&self, request: Request<Incoming>) -> Answer {
        let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
        let body = match tokio::time::timeout(BODY_DEADLINE, body).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => return answer(StatusCode::PAYLOAD_TOO_LARGE, TEXT, "a filter may have 4 KiB at most\n"),
            Err(_) => return answer(StatusCode::REQUEST_TIMEOUT, TEXT, "the body did not arrive within 2 s\n"),
        };
        let body = body.to_bytes();
        let filter = std::str::from_utf8(&body).map(str::trim).unwrap_or_default();
        let Some(logs) = self.logs.as_ref().filter(|_| !filter.is_empty()) else {
            return answer(
                StatusCode::BAD_REQUEST,
                TEXT,
                "send the new filter as the body: a level such as info, or a comma-separated list of target=level\n",
            );
        };
        match logs.set(filter) {
            Ok(()) => answer(StatusCode::OK, TEXT, format!("{filter}\n")),
            Err(error) => answer(StatusCode::BAD_REQUEST, TEXT, format!("{error}\n")),
        }
    }
}

impl AdminState {
    /// Reloads the configuration and answers with the outcome.
    async fn answer_reload(&self, method: &Method) -> Answer {
        if self.token.is_none() {
            return answer(
                StatusCode::FORBIDDEN,
                TEXT,
                "a reload needs a token: set admin.token (AIMPOINT__ADMIN__TOKEN) and send \
                 Authorization: Bearer <admin.token>; without one, use SIGHUP on this machine\n",
            );
        }
        if method != Method::POST {
            return answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "use POST\n");
        }
        let reload = self.reload.run.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(reload) = reload else {
            return answer(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                "reload is not available yet: wait until the process has started; aimpoint serve only takes SIGHUP\n",
            );
        };
        let Ok(permit) = Arc::clone(&self.reload.permit).try_acquire_owned() else {
            return answer(StatusCode::CONFLICT, TEXT, "another reload is in progress; try again when it has ended\n");
        };
        // Reading files and compiling pipelines may take long: keep it off the thread that answers the probes.
        let task = tokio::task::spawn_blocking(move || {
            let outcome = reload();
            drop(permit);
            outcome
        });
        match tokio::time::timeout(RELOAD_WAIT, task).await {
            Ok(Ok(Ok(taken))) => answer(StatusCode::OK, TEXT, format!("taken: {taken}\n")),
            Ok(Ok(Err(why))) => answer(
                StatusCode::UNPROCESSABLE_ENTITY,
                TEXT,
                format!("refused, nothing has changed:\n{}\n", why.trim_end()),
            ),
            Ok(Err(_)) => answer(
                StatusCode::INTERNAL_SERVER_ERROR,
                TEXT,
                "the reload failed because of a bug, nothing has changed: see the log\n",
            ),
            Err(_) => answer(
                StatusCode::ACCEPTED,
                TEXT,
                "the reload is still in progress: see the log and aimpoint_reloads_total for the outcome\n",
            ),
        }
    }
}

pub(super) type Answer = Response<Full<Bytes>>;

const HTML: &str = "text/html; charset=utf-8";
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const SCRIPT_TYPE: &str = "text/javascript; charset=utf-8";

pub(super) fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let builder = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, kind)
        .header(header::CONTENT_SECURITY_POLICY, POLICY)
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(header::REFERRER_POLICY, "no-referrer")
        .header(header::CACHE_CONTROL, "no-store");
    let builder = match status {
        StatusCode::UNAUTHORIZED => builder.header(header::WWW_AUTHENTICATE, "Bearer"),
        _ => builder,
    };
    builder.body(Full::new(body.into())).expect("status and headers are well-formed")
}

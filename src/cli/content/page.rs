//! The page on which people decide about texts.
//!
//! Owns a server for one review. Guarantees: it answers this machine alone, and only who has the token of its address; a decision is in
//! the audit log, on disk, before its answer. Limits: one process; requests one at a time; bodies up to 64 KiB.

use super::review::Review;
use crate::{cli::Exit, content::review::Verdict, hex};
use anyhow::Context;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{
        AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS,
    },
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use serde_json::json;
use std::{convert::Infallible, fs::File, io::Read, io::Write, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::{Mutex, Notify},
};

const PAGE: &str = include_str!("page/review.html");
const STYLE: &str = include_str!("page/review.css");
const SCRIPT: &str = include_str!("page/review.js");

const BODY_BYTES_MAX: usize = 64 << 10;
const HEAD_DEADLINE: Duration = Duration::from_secs(5);

/// What the page sends about a text.
#[derive(Debug, Deserialize)]
struct Sent {
    id: String,
    #[serde(flatten)]
    verdict: Verdict,
}

/// A review with its page.
struct Desk {
    /// `None` once it is over.
    review: Mutex<Option<Review>>,
    token: String,
    address: SocketAddr,
    /// Told when the reviewer has finished.
    over: Notify,
}

/// Serves the page until the reviewer finishes.
pub(super) fn serve(review: Review, address: SocketAddr) -> anyhow::Result<Review> {
    if !address.ip().is_loopback() {
        return Err(Exit::Usage.because(format!(
            "--page {address}: reviews are for this machine alone; give an address such as 127.0.0.1:0, and reach it \
             through an SSH tunnel from elsewhere"
        )));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the page")?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
        let address = listener.local_addr().context("listen")?;
        let desk = Arc::new(Desk { review: Mutex::new(Some(review)), token: token()?, address, over: Notify::new() });
        writeln!(
            crate::cli::printed::stdout(),
            "Open http://{address}/#{} in a browser, and finish there.",
            desk.token
        )?;
        drop(tokio::spawn(accept(listener, Arc::clone(&desk))));
        desk.over.notified().await;
        // The last answer has to leave.
        tokio::time::sleep(Duration::from_millis(200)).await;
        desk.review.lock().await.take().context("the review is over already")
    })
}

async fn accept(listener: TcpListener, desk: Arc<Desk>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of files, for instance.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let desk = Arc::clone(&desk);
        drop(tokio::spawn(async move {
            let answer = |request| {
                let desk = Arc::clone(&desk);
                async move { Ok::<_, Infallible>(desk.answer(request).await) }
            };
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_DEADLINE)
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a connection of the page ended");
            }
        }));
    }
}

/// A number that nobody can guess.
fn token() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("read /dev/urandom")?;
    Ok(hex::encode(&bytes))
}

impl Desk {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        // A name that leads here may be another's, whose page would then be allowed to read this one.
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let named = format!("localhost:{}", self.address.port());
        if host != Some(&self.address.to_string()) && host != Some(&named) {
            return text(StatusCode::MISDIRECTED_REQUEST, "open the address as it was printed");
        }
        let path = request.uri().path().to_owned();
        match (request.method(), path.as_str()) {
            (&Method::GET, "/") => return file("text/html; charset=utf-8", PAGE),
            (&Method::GET, "/review.css") => return file("text/css; charset=utf-8", STYLE),
            (&Method::GET, "/review.js") => return file("text/javascript; charset=utf-8", SCRIPT),
            _ => {}
        }
        let given = request.headers().get(AUTHORIZATION).and_then(|it| it.to_str().ok()?.strip_prefix("Bearer "));
        if given != Some(&self.token) {
            return text(StatusCode::UNAUTHORIZED, "open the address as it was printed, with what follows the #");
        }
        if (request.method(), path.as_str()) == (&Method::POST, "/decisions") {
            return self.decide(request.into_body()).await;
        }
        let review = self.review.lock().await;
        let Some(review) = review.as_ref() else { return over() };
        match (request.method(), path.as_str()) {
            (&Method::GET, "/texts") => json_of(StatusCode::OK, &review.shown()),
            (&Method::POST, "/finish") => {
                let left = review.waiting.len();
                self.over.notify_one();
                let done = format!(
                    "{left} texts are left. The terminal says where the creatives are. You can close this page."
                );
                json_of(StatusCode::OK, &json!({ "done": done }))
            }
            _ => text(StatusCode::NOT_FOUND, "there is nothing here"),
        }
    }

    async fn decide(&self, body: Incoming) -> Response<Full<Bytes>> {
        let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
            return text(StatusCode::PAYLOAD_TOO_LARGE, "the text is too long");
        };
        let sent: Sent = match serde_json::from_slice(&body.to_bytes()) {
            Ok(sent) => sent,
            Err(error) => return text(StatusCode::BAD_REQUEST, &format!("not a decision: {error}")),
        };
        let mut review = self.review.lock().await;
        let Some(review) = review.as_mut() else { return over() };
        let Some(at) = review.waiting.iter().position(|it| it.id == sent.id) else {
            return text(StatusCode::CONFLICT, "this text has been decided on; load the page again");
        };
        let objections = review.objections(&review.waiting[at], &sent.verdict);
        if !objections.is_empty() {
            return json_of(StatusCode::UNPROCESSABLE_ENTITY, &json!(objections));
        }
        if let Err(error) = review.decide(at, sent.verdict) {
            return text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}"));
        }
        json_of(StatusCode::OK, &json!({ "left": review.waiting.len() }))
    }
}

fn over() -> Response<Full<Bytes>> {
    text(StatusCode::GONE, "the review is over; start it again to go on")
}

fn respond(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    for (name, value) in [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; form-action 'none'; \
             base-uri 'none'; frame-ancestors 'none'",
        ),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn file(kind: &'static str, content: &'static str) -> Response<Full<Bytes>> {
    respond(StatusCode::OK, kind, Bytes::from_static(content.as_bytes()))
}

fn text(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", Bytes::from(message.to_owned()))
}

fn json_of(status: StatusCode, value: &serde_json::Value) -> Response<Full<Bytes>> {
    respond(status, "application/json", Bytes::from(value.to_string()))
}

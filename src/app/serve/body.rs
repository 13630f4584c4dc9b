//! The bounds of requests, and their bodies.

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{
    Request,
    body::{Body, Bytes, Incoming},
    header,
};
use std::time::Duration;

/// What bounds requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The most connections.
    pub(super) connections: usize,
    /// The most requests with a body at a time.
    pub(super) requests: usize,
    /// The longest body.
    pub(super) body_bytes: usize,
    /// The most users of a request.
    pub(super) batch: usize,
    /// How long a body may take.
    pub(super) body: Duration,
    /// The length of an answer about several users from which on users are left out.
    pub(super) answer_bytes: usize,
    /// How long an answer may wait for its client.
    pub(super) write: Duration,
    /// How long a connection may be silent.
    pub(super) idle: Duration,
}

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFault {
    /// It is too long.
    TooLarge,
    /// It took too long.
    Slow,
    /// The client went away, or its body is broken.
    Broken,
    /// It is compressed.
    Encoded,
}

/// Reads the body of a request.
pub(super) async fn read(request: Request<Incoming>, limits: &Limits) -> Result<Bytes, BodyFault> {
    let encoding = request.headers().get(header::CONTENT_ENCODING).map(header::HeaderValue::as_bytes);
    if encoding.is_some_and(|encoding| encoding != b"identity") {
        return Err(BodyFault::Encoded);
    }
    let body = request.into_body();
    // Do not even begin if the client says that it is too long.
    if body.size_hint().lower() > limits.body_bytes as u64 {
        return Err(BodyFault::TooLarge);
    }
    let body = Limited::new(body, limits.body_bytes).collect();
    match tokio::time::timeout(limits.body, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyFault::TooLarge),
        Ok(Err(_)) => Err(BodyFault::Broken),
        Err(_) => Err(BodyFault::Slow),
    }
}

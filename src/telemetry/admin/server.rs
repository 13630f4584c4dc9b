//! The connections of the admin port: how many there may be, and for how long.
//!
//! Guarantees: a probe never waits for other clients. Every connection is accepted at once. Until its request asks for more than a
//! probe or a file of the page, it is one of at most [`ARRIVING_MAX`] arriving connections; one more closes the oldest of them, so
//! that silent and slow clients evict only each other. Costlier requests (metrics, the snapshot, a body) take one of
//! [`ANSWERING_MAX`] places of their own; if all are taken, the client is asked to try again.
//!
//! Limits: a head may take [`HEAD_DEADLINE`], a body [`BODY_DEADLINE`], and a connection, which serves one request,
//! [`CONNECTION_DEADLINE`].

use super::AdminState;
use crate::logging;
use hyper::{Method, Request, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
};

/// The most connections whose request is not known yet: many times what arrives within the microseconds that a request takes,
/// and few enough for a process that may open 1,024 files.
pub(super) const ARRIVING_MAX: usize = 128;

/// The most concurrent requests other than probes: a few scrapers and browsers need a handful.
pub(super) const ANSWERING_MAX: usize = 32;

/// How long a client may take to send the head of its request. A lost packet is sent again after a second.
pub(super) const HEAD_DEADLINE: Duration = Duration::from_secs(2);

/// How long a client may take to send a body, which is a log filter.
pub(super) const BODY_DEADLINE: Duration = Duration::from_secs(2);

/// How long a connection may last. An answer has a few hundred KiB at most.
pub(super) const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);

/// The longest head.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// How many connections may wait to be accepted while the process is briefly busy.
pub(super) const BACKLOG: u32 = 1_024;

/// How often the workers' counts are sampled for the page.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// The places of all connections.
struct Places {
    arriving: Mutex<BTreeMap<u64, AbortHandle>>,
    answering: Arc<Semaphore>,
}

impl Places {
    fn arriving(&self) -> MutexGuard<'_, BTreeMap<u64, AbortHandle>> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an arriving connection, and closes the oldest one if there are too many.
    fn arrive(&self, number: u64, task: AbortHandle) {
        let oldest = {
            let mut arriving = self.arriving();
            arriving.insert(number, task);
            if arriving.len() > ARRIVING_MAX { arriving.pop_first() } else { None }
        };
        if let Some((_, oldest)) = oldest {
            oldest.abort();
        }
    }
}

/// The place of one connection.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    answering: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Place {
    /// Takes a place for a costlier request until the connection ends; returns whether one was free.
    pub(super) fn enter(&self) -> bool {
        let Ok(permit) = Arc::clone(&self.places.answering).try_acquire_owned() else { return false };
        self.places.arriving().remove(&self.number);
        *self.answering.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.arriving().remove(&self.number);
    }
}

/// Accepts connections until the process ends.
pub(super) async fn accept(listener: TcpListener, state: Arc<AdminState>) {
    let sampled = Arc::clone(&state);
    drop(tokio::spawn(async move {
        loop {
            sampled.sample();
            tokio::time::sleep(SAMPLE_INTERVAL).await;
        }
    }));
    let places = Arc::new(Places { arriving: Mutex::default(), answering: Arc::new(Semaphore::new(ANSWERING_MAX)) });
    let mut number = 0;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                number += 1;
                let place = Arc::new(Place { places: Arc::clone(&places), number, answering: Mutex::default() });
                let task = tokio::spawn(serve(stream, peer, Arc::clone(&state), place));
                // The task has not run yet: there is one thread, and it has not awaited anything.
                places.arrive(number, task.abort_handle());
            }
            Err(error) => {
                // Most likely the process is out of files: leave the next one to others.
                tracing::warn!(%error, "accepting a connection to the admin port failed");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        // Give each connection a turn before accepting the next one, so that a probe in a crowd is answered before it is evicted.
        tokio::task::yield_now().await;
    }
}

/// Logs who asked for a change, and what came of it. The body may name a user, so it is not logged.
fn audit(peer: IpAddr, method: &Method, path: &str, status: StatusCode) {
    let status = status.as_u16();
    if matches!(status, 401 | 403..=405) {
        // Anyone can cause these.
        if let Some(left_out) = logging::rate_limited("a refused change by the admin port") {
            tracing::warn!(target: logging::AUDIT, %peer, %method, path, status, left_out, "a change was refused");
        }
    } else {
        tracing::info!(target: logging::AUDIT, %peer, %method, path, status, "a change was requested");
    }
}

/// Serves one request.
async fn serve(stream: TcpStream, peer: SocketAddr, state: Arc<AdminState>, place: Arc<Place>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (state, place) = (Arc::clone(&state), Arc::clone(&place));
        async move {
            let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
            let asked = changes.then(|| (request.method().clone(), request.uri().path().to_owned()));
            let answer = state.answer(request, peer.ip(), &place).await;
            if let Some((method, path)) = asked {
                audit(peer.ip(), &method, &path, answer.status());
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // Ignore clients that go away or take too long.
    if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_DEADLINE, connection).await {
        tracing::debug!(%error, "a connection to the admin port");
    }
}

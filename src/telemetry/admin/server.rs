//! The connections of the admin port: who has a place, and for how long.
//!
//! Guarantees: a probe never waits for other clients. Every connection is accepted at once. Until its request asks for more than a
//! probe or a file of the page, it is one of [`ARRIVING_MAX`] that arrive; a further one closes the oldest of them, so that clients
//! that say nothing, or say it slowly, push each other out and nobody else. What costs more (metrics, the snapshot, a body, a slow
//! reader) has one of [`ANSWERING_MAX`] places of its own; where all are taken, the client is told to come again.
//!
//! Limits: a head has [`HEAD_DEADLINE`], a body [`BODY_DEADLINE`], and a connection, which serves one request, [`CONNECTION_DEADLINE`].

use super::{Board, UPKEEP_INTERVAL};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
};

/// The most connections whose request is not known yet: many times what arrives within the microseconds that a request takes to
/// come in, and few enough for a process that may open 1,024 files.
pub(super) const ARRIVING_MAX: usize = 128;

/// The most requests at once that are more than a probe: some scrapes and browsers need a handful.
pub(super) const ANSWERING_MAX: usize = 32;

/// How long a client may take for the head of its request. A lost packet is sent again after a second.
pub(super) const HEAD_DEADLINE: Duration = Duration::from_secs(2);

/// How long a client may take for a body, which is a filter of logs.
pub(super) const BODY_DEADLINE: Duration = Duration::from_secs(2);

/// How long a connection may last. An answer is some 100 KiB at most.
pub(super) const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);

/// The most bytes of a head.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// How many connections wait in the system until they are accepted, where the process is busy for a moment.
pub(super) const BACKLOG: u32 = 1_024;

/// How often the board's figures are kept for the page.
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

    /// A connection has come; the oldest of those that arrive goes where there are too many.
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
    /// Takes one of the places for requests that cost more than a probe, until the connection ends; says whether one was free.
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
pub(super) async fn accept(listener: TcpListener, board: Arc<Board>) {
    let upkeep = Arc::clone(&board);
    drop(tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            upkeep.metrics.run_upkeep();
        }
    }));
    let sampled = Arc::clone(&board);
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
                let task = tokio::spawn(serve(stream, peer, Arc::clone(&board), place));
                // The task has not run yet: there is one thread, and nothing was waited for.
                places.arrive(number, task.abort_handle());
            }
            Err(error) => {
                // Out of files, most likely: the process has better uses for the next one.
                tracing::warn!(%error, "accept a connection to the admin port");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        // Whoever has come gets a turn before the next one comes, so that a probe in a crowd is answered before it is pushed out.
        tokio::task::yield_now().await;
    }
}

/// Serves one request.
async fn serve(stream: TcpStream, peer: SocketAddr, board: Arc<Board>, place: Arc<Place>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (board, place) = (Arc::clone(&board), Arc::clone(&place));
        async move { Ok::<_, Infallible>(board.answer(request, peer.ip(), &place).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A client that goes away or takes too long is its own affair.
    if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_DEADLINE, connection).await {
        tracing::debug!(%error, "a connection to the admin port");
    }
}

//! The connections of bidders.
//!
//! Each thread has its own runtime and accepts from the same socket, so nothing is handed over between threads.
//! Connections are kept alive. One above the most that there may be is told to come back later, without its request being
//! read; such answers have [`TURNING_AWAY_MAX`] places, and beyond them connections are closed.
//!
//! When the process stops, each connection ends with the answer that it is at.

use super::{
    body::Limits,
    routes::{Answerer, too_many},
};
use crate::metrics;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    future::poll_fn,
    net::{SocketAddr, TcpListener},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};
use tokio::{net::TcpStream, sync::watch};

/// The longest head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// The connections that are being told that there are too many.
const TURNING_AWAY_MAX: usize = 64;
/// How long telling one may take.
const TURNING_AWAY_DEADLINE: Duration = Duration::from_millis(250);
/// How long connections may end after the process was asked to stop: longer than a body may take by default.
const END_DEADLINE: Duration = Duration::from_secs(3);
/// How often it is looked whether they have.
const END_INTERVAL: Duration = Duration::from_millis(10);

/// Listens at an address. All threads accept from this socket.
pub(super) fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers on this thread until the process is to stop and the connections have ended.
pub(super) fn run(listener: TcpListener, answerer: Answerer, stop: watch::Receiver<bool>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        accept(listener, Arc::new(answerer), stop).await;
        Ok(())
    })
}

async fn accept(listener: tokio::net::TcpListener, answerer: Arc<Answerer>, mut stop: watch::Receiver<bool>) {
    // Those of this thread.
    let open = Arc::new(AtomicUsize::new(0));
    let turning_away = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = {
            let (mut next, mut stopped) = (pin!(listener.accept()), pin!(stop.wait_for(|it| *it)));
            poll_fn(|context| {
                if stopped.as_mut().poll(context).is_ready() {
                    return Poll::Ready(None);
                }
                next.as_mut().poll(context).map(Some)
            })
            .await
        };
        match accepted {
            None => break,
            Some(Ok((stream, _))) => {
                // Answers are small and complete: waiting for more of them only delays them.
                stream.set_nodelay(true).unwrap_or_default();
                let count = if has_room(&answerer) { &open } else { &turning_away };
                if Arc::ptr_eq(count, &turning_away) {
                    metrics::serve_turned_away("connections");
                    if turning_away.load(Ordering::Relaxed) >= TURNING_AWAY_MAX {
                        continue;
                    }
                }
                let (count, is_extra) = (Arc::clone(count), Arc::ptr_eq(count, &turning_away));
                count.fetch_add(1, Ordering::Relaxed);
                let (answerer, stop) = (Arc::clone(&answerer), stop.clone());
                drop(tokio::spawn(async move {
                    if is_extra {
                        turn_away(stream).await;
                    } else {
                        serve(stream, &answerer, stop).await;
                    }
                    count.fetch_sub(1, Ordering::Relaxed);
                }));
            }
            Some(Err(error)) => {
                // Most likely the process is out of files: leave the next one to others.
                tracing::warn!(%error, "accept a connection");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    drop(listener);
    let ended = async {
        while open.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(END_INTERVAL).await;
        }
    };
    if tokio::time::timeout(END_DEADLINE, ended).await.is_err() {
        tracing::warn!(
            connections = open.load(Ordering::Relaxed),
            "connections were cut: their requests took too long"
        );
    }
}

fn has_room(answerer: &Answerer) -> bool {
    let shared = &answerer.shared;
    shared.figures.connections() < shared.limits.connections
}

async fn serve(stream: TcpStream, answerer: &Arc<Answerer>, mut stop: watch::Receiver<bool>) {
    let Limits { connections, idle, .. } = answerer.shared.limits;
    let Some(_place) = answerer.shared.figures.connect(connections) else { return turn_away(stream).await };
    let service = service_fn(|request: Request<Incoming>| {
        let answerer = Arc::clone(answerer);
        async move { Ok::<_, Infallible>(answerer.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let (mut connection, mut stopped) = (pin!(connection), pin!(stop.wait_for(|it| *it)));
    let mut is_told = false;
    let ended = poll_fn(|context| {
        if !is_told && stopped.as_mut().poll(context).is_ready() {
            is_told = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(context)
    });
    // Ignore clients that go away or take too long.
    if let Err(error) = ended.await {
        tracing::debug!(%error, "a connection");
    }
}

/// Answers one request without looking at it.
async fn turn_away(stream: TcpStream) {
    let service = service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(too_many()) });
    let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    drop(tokio::time::timeout(TURNING_AWAY_DEADLINE, connection).await);
}

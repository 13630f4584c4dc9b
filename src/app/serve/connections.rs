//! The connections of bidders.
//!
//! Each thread has its own runtime and accepts from the same sockets, so nothing is handed over between threads.
//! Connections are kept alive. One above the most that there may be is told to come back later, without its request being
//! read; such answers have [`TURNING_AWAY_MAX`] places, and beyond them, and with TLS, connections are closed. One whose client
//! does not take its answers is cut ([`Paced`]).
//!
//! When the process stops, each connection ends with the answer that it is at.

use super::{
    body::Limits,
    grpc::{self, GrpcAnswerer},
    paced::Paced,
    routes::{Answerer, Shared, too_many},
    tls::Protocol,
};
use crate::metrics;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    fmt::Display,
    future::poll_fn,
    net::{SocketAddr, TcpListener},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
};

/// The longest head of a request.
pub(super) const HEAD_BYTES_MAX: usize = 16 << 10;
/// The connections that are being told that there are too many.
const TURNING_AWAY_MAX: usize = 64;
/// How long telling one may take.
pub(super) const TURNING_AWAY_DEADLINE: Duration = Duration::from_millis(250);
/// How long connections may end after they were asked to: longer than a body may take by default.
const END_DEADLINE: Duration = Duration::from_secs(3);
/// How often it is looked whether they have.
const END_INTERVAL: Duration = Duration::from_millis(10);

/// What answers at a socket.
#[derive(Clone)]
pub(super) enum Answers {
    Http(Arc<Answerer>),
    Grpc(Arc<GrpcAnswerer>),
}

impl Answers {
    fn shared(&self) -> &Shared {
        match self {
            Self::Http(answerer) => &answerer.shared,
            Self::Grpc(answerer) => answerer.shared(),
        }
    }

    fn protocol(&self) -> Protocol {
        match self {
            Self::Http(_) => Protocol::Http1,
            Self::Grpc(_) => Protocol::Http2,
        }
    }
}

/// A socket, and what answers there.
pub(super) struct Door {
    pub(super) listener: TcpListener,
    pub(super) answers: Answers,
}

/// Listens at an address. All threads accept from this socket.
pub(super) fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers on this thread until the process is to stop and the connections have ended.
pub(super) fn run(doors: Vec<Door>, stop: &watch::Receiver<bool>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let mut accepting = Vec::new();
        for Door { listener, answers } in doors {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            if let Answers::Grpc(answerer) = &answers {
                answerer.tell_health().await;
                drop(tokio::spawn(Arc::clone(answerer).follow_health(stop.clone())));
            }
            accepting.push(tokio::spawn(accept(listener, answers, stop.clone())));
        }
        for it in accepting {
            it.await.map_err(std::io::Error::other)?;
        }
        Ok(())
    })
}

async fn accept(listener: tokio::net::TcpListener, answers: Answers, mut stop: watch::Receiver<bool>) {
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
                let connected = Connected::begin(&answers);
                if connected.is_none() {
                    metrics::serve_turned_away("connections");
                    if turning_away.load(Ordering::Relaxed) >= TURNING_AWAY_MAX {
                        continue;
                    }
                }
                let count = Arc::clone(if connected.is_some() { &open } else { &turning_away });
                count.fetch_add(1, Ordering::Relaxed);
                let (answers, stop) = (answers.clone(), stop.clone());
                drop(tokio::spawn(async move {
                    match connected {
                        Some(connected) => serve(stream, &connected.0, stop).await,
                        None => turn_away(stream, &answers).await,
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

/// The place of a connection, taken before another one is accepted, until this is dropped.
struct Connected(Answers);

impl Connected {
    /// `None` if there are as many as there may be.
    fn begin(answers: &Answers) -> Option<Self> {
        let Shared { figures, limits, .. } = answers.shared();
        figures.connect(limits.connections).then(|| Self(answers.clone()))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.shared().figures.disconnect();
    }
}

async fn serve(stream: TcpStream, answers: &Answers, stop: watch::Receiver<bool>) {
    let Some(tls) = &answers.shared().tls else { return serve_stream(stream, answers, stop).await };
    match tls.accept(stream, answers.protocol()).await {
        Ok(stream) => serve_stream(stream, answers, stop).await,
        Err(error) => {
            metrics::serve_turned_away("tls");
            tracing::debug!(%error, "begin a connection in TLS");
        }
    }
}

async fn serve_stream<S>(stream: S, answers: &Answers, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = Paced::new(stream, answers.shared().limits.write);
    let answerer = match answers {
        Answers::Http(answerer) => answerer,
        Answers::Grpc(answerer) => return grpc::serve(stream, answerer, stop).await,
    };
    let Limits { idle, .. } = answerer.shared.limits;
    let service = service_fn(|request: Request<Incoming>| {
        let answerer = Arc::clone(answerer);
        async move { Ok::<_, Infallible>(answerer.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    drive(connection, stop.wait_for(|it| *it), hyper::server::conn::http1::Connection::graceful_shutdown).await;
}

/// Serves a connection. When `until` is there, asks it to end with the answers that it is at.
pub(super) async fn drive<C, E>(connection: C, until: impl Future, end: impl FnOnce(Pin<&mut C>))
where
    C: Future<Output = Result<(), E>>,
    E: Display,
{
    let (mut connection, mut until) = (pin!(connection), pin!(until));
    let ended = poll_fn(|context| {
        if until.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        connection.as_mut().poll(context).map(Some)
    });
    let ended = ended.await;
    let ended = match ended {
        Some(ended) => Ok(ended),
        None => {
            end(connection.as_mut());
            tokio::time::timeout(END_DEADLINE, connection).await
        }
    };
    // Ignore clients that go away or take too long.
    if let Ok(Err(error)) = ended {
        tracing::debug!(%error, "a connection");
    }
}

/// Answers one request without looking at it. In TLS, beginning the connection would cost more than answering requests,
/// so that it is closed.
async fn turn_away(stream: TcpStream, answers: &Answers) {
    if answers.shared().tls.is_some() {
        return;
    }
    if let Answers::Grpc(_) = answers {
        return grpc::turn_away(stream).await;
    }
    let service = service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(too_many()) });
    let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    drop(tokio::time::timeout(TURNING_AWAY_DEADLINE, connection).await);
}

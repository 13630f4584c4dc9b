//! The connections of gRPC: HTTP/2 alone.
//!
//! Guarantees: a connection has at most [`STREAMS_MAX`] requests at a time. One without a request for `serve.idle_timeout`
//! is asked to go, within twice that time, and is cut if it does not.

use super::{
    super::{
        body::Limits,
        connections::{HEAD_BYTES_MAX, TURNING_AWAY_DEADLINE, drive},
    },
    GrpcAnswerer, too_many,
};
use hyper::{Request, body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

/// The most requests of a connection at a time. Hosts open further connections for more.
const STREAMS_MAX: u32 = 256;
/// What a client may send on one request, and on a connection, before it was read.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// What happens on a connection.
#[derive(Default)]
struct Activity {
    begun: AtomicUsize,
    ended: AtomicUsize,
}

/// A request that is being answered.
struct Answering(Arc<Activity>);

impl Answering {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.begun.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

impl Activity {
    /// Waits until there has been no request for this long.
    async fn quiet(&self, time: Duration) {
        loop {
            let begun = self.begun.load(Ordering::Relaxed);
            let was_quiet = begun == self.ended.load(Ordering::Relaxed);
            tokio::time::sleep(time).await;
            if was_quiet && begun == self.begun.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// Serves a connection to its end.
pub(in super::super) async fn serve<S>(stream: S, answerer: &Arc<GrpcAnswerer>, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Limits { idle, .. } = answerer.shared.limits;
    let activity = Arc::new(Activity::default());
    let service = service_fn(|request: Request<Incoming>| {
        let (answerer, answering) = (Arc::clone(answerer), Answering::begin(&activity));
        async move {
            let answer = answerer.answer(request).await;
            drop(answering);
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .serve_connection(TokioIo::new(stream), service);
    let (mut stopped, mut quiet) = (pin!(stop.wait_for(|it| *it)), pin!(activity.quiet(idle)));
    let until = poll_fn(|context| {
        let is_over = stopped.as_mut().poll(context).is_ready() || quiet.as_mut().poll(context).is_ready();
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    });
    drive(connection, until, hyper::server::conn::http2::Connection::graceful_shutdown).await;
}

/// Answers the requests of a moment without looking at them.
pub(in super::super) async fn turn_away<S>(stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(too_many()) });
    let connection = http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .serve_connection(TokioIo::new(stream), service);
    drop(tokio::time::timeout(TURNING_AWAY_DEADLINE, connection).await);
}

//! The connections of gRPC: HTTP/2 alone.
//!
//! Guarantees: a connection has at most [`STREAMS_MAX`] requests at a time. One without a request for `serve.idle_timeout`
//! is asked to go, within twice that time, and is cut if it does not. So is one whose client leaves no room for an answer for
//! `serve.write_timeout`, within twice that time.

use super::{
    super::{
        body::Limits,
        connections::{HEAD_BYTES_MAX, TURNING_AWAY_DEADLINE, drive},
    },
    GrpcAnswerer, too_many,
};
use crate::{metrics, proto::iab::service::rtb_extension_point_server::SERVICE_NAME};
use hyper::{
    Request,
    body::{Bytes, Frame, Incoming, SizeHint},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};
use tonic::{Status, body::Body};

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
    answered: AtomicUsize,
    sent: AtomicUsize,
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

/// The body of an answer. `activity`: the client has to leave room for it; `None` for a stream, which lasts as long as it likes.
struct Sending {
    body: Body,
    activity: Option<Arc<Activity>>,
}

impl Sending {
    fn begin(body: Body, activity: Option<Arc<Activity>>) -> Self {
        if let Some(activity) = &activity {
            activity.answered.fetch_add(1, Ordering::Relaxed);
        }
        Self { body, activity }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(activity) = &self.activity {
            activity.sent.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl hyper::body::Body for Sending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Activity {
    /// Waits until there has been an answer without room for this long.
    async fn stuck(&self, time: Duration) {
        loop {
            let answered = self.answered.load(Ordering::Relaxed);
            tokio::time::sleep(time).await;
            // Others may have been sent meanwhile, so that this finds fewer than there are, and never one too many.
            if self.sent.load(Ordering::Relaxed) < answered {
                metrics::serve_turned_away("slow");
                return;
            }
        }
    }

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
    let Limits { idle, write, .. } = answerer.shared.limits;
    let activity = Arc::new(Activity::default());
    let service = service_fn(|request: Request<Incoming>| {
        let (answerer, answering) = (Arc::clone(answerer), Answering::begin(&activity));
        // Health and reflection have streams.
        let is_unary = request.uri().path().split('/').nth(1) == Some(SERVICE_NAME);
        let activity = is_unary.then(|| Arc::clone(&activity));
        async move {
            let answer = answerer.answer(request).await;
            drop(answering);
            Ok::<_, Infallible>(answer.map(|body| Sending::begin(body, activity)))
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
    let mut stuck = pin!(activity.stuck(write));
    let until = poll_fn(|context| {
        let is_over = stopped.as_mut().poll(context).is_ready()
            || quiet.as_mut().poll(context).is_ready()
            || stuck.as_mut().poll(context).is_ready();
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

//! A connection whose client has to take its answers.
//!
//! Guarantees: a client that takes less than [`FLOOR_BYTES`] of its waiting answers within `serve.write_timeout` is cut, whether
//! it reads nothing or a little at a time. So no client keeps a connection, and the memory of its answers, by not reading.
//! Limits: the operating system takes the first answers for the client, so it is noticed once its buffers are full.

use crate::metrics;
use std::{
    io::{Error, ErrorKind, IoSlice, Result},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// How much of its waiting answers a client takes at least within `serve.write_timeout`: less than the slowest mobile network
/// carries, and more than the overhead of a connection.
const FLOOR_BYTES: usize = 64 << 10;

/// A connection, and for how long its client has kept an answer waiting.
pub(super) struct Paced<S> {
    stream: S,
    timeout: Duration,
    waiting: Option<Waiting>,
}

/// Answers that the client has not taken yet.
struct Waiting {
    /// Ends when the client has to have taken more.
    until: Pin<Box<Sleep>>,
    /// What it has taken since the time was last extended.
    taken: usize,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, timeout: Duration) -> Self {
        Self { stream, timeout, waiting: None }
    }

    /// Takes in how a write went. Without progress, wakes the connection when its time is over.
    fn wrote(&mut self, context: &mut Context<'_>, written: Poll<Result<usize>>) -> Poll<Result<usize>> {
        let timeout = self.timeout;
        match (&written, &mut self.waiting) {
            (Poll::Ready(Ok(count)), Some(waiting)) => {
                waiting.taken += count;
                if waiting.taken >= FLOOR_BYTES {
                    waiting.taken = 0;
                    waiting.until.as_mut().reset(Instant::now() + timeout);
                }
                written
            }
            (Poll::Pending, waiting) => {
                let begin = || Waiting { until: Box::pin(tokio::time::sleep(timeout)), taken: 0 };
                let waiting = waiting.get_or_insert_with(begin);
                if waiting.until.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                metrics::serve_turned_away("slow");
                Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the client does not take its answers")))
            }
            (Poll::Ready(_), _) => written,
        }
    }

    /// Takes in how emptying the buffers went.
    fn emptied(&mut self, context: &mut Context<'_>, emptied: Poll<Result<()>>) -> Poll<Result<()>> {
        match emptied {
            Poll::Ready(_) => {
                self.waiting = None;
                emptied
            }
            Poll::Pending => self.wrote(context, Poll::Pending).map_ok(drop),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, to)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.wrote(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let emptied = Pin::new(&mut self.stream).poll_flush(context);
        self.emptied(context, emptied)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(context);
        self.emptied(context, ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const TIMEOUT: Duration = Duration::from_millis(300);
    const STEP: Duration = Duration::from_millis(20);

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
    }

    /// Whether a client that takes this much each [`STEP`] is cut.
    async fn is_cut(bytes: usize) -> bool {
        let (server, mut client) = duplex(1_024);
        let mut server = Paced::new(server, TIMEOUT);
        drop(tokio::spawn(async move {
            let mut part = vec![0; bytes];
            loop {
                tokio::time::sleep(STEP).await;
                client.read_exact(&mut part).await.unwrap_or_default();
            }
        }));
        let writing = async {
            loop {
                if let Err(error) = server.write_all(&[0; 4_096]).await {
                    return error.kind();
                }
            }
        };
        let ended = tokio::time::timeout(5 * TIMEOUT, writing).await;
        assert!(matches!(ended, Err(_) | Ok(ErrorKind::TimedOut)), "{ended:?}");
        ended.is_ok()
    }

    #[test]
    fn a_client_that_takes_nothing_or_too_little_is_cut_and_a_slow_one_is_not() {
        for (bytes, expected) in [(0, true), (1, true), (1_000, true), (FLOOR_BYTES, false)] {
            assert_eq!(runtime().block_on(is_cut(bytes)), expected, "{bytes}");
        }
    }

    #[test]
    fn a_client_that_has_taken_everything_may_pause() {
        runtime().block_on(async {
            let (server, mut client) = duplex(1_024);
            let mut server = Paced::new(server, TIMEOUT);
            let reading = tokio::spawn(async move {
                for _ in 0..3 {
                    tokio::time::sleep(TIMEOUT / 3).await;
                    client.read_exact(&mut [0; 2_000]).await.unwrap();
                }
            });
            for _ in 0..3 {
                server.write_all(&[0; 2_000]).await.unwrap();
                server.flush().await.unwrap();
            }
            reading.await.unwrap();
        });
    }
}

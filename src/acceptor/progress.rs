//! How far a connection is, as far as its shutdown has to know.
//!
//! hyper tells nobody whether a request head is half read, and its `graceful_shutdown` closes a kept-alive connection
//! in that state. So the bytes are watched on their way: what was read after the last write belongs to a request that
//! has not been answered.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Shared by a connection's IO, its requests and its task, all of which live on one thread. It is atomic because
/// hyper wants IO that can be upgraded to be `Send`.
#[derive(Debug, Default)]
pub(super) struct Progress {
    stopping: AtomicBool,
    unanswered: AtomicBool,
}

/// IO that notes what is read and written.
pub(super) struct Watched<T> {
    io: T,
    progress: Arc<Progress>,
}

// ===== impl Progress =====

impl Progress {
    /// From here on, a request that waits is answered for.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Relaxed);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    /// Whether something was read that no response has followed. Where nothing is parked, that is a part of a request.
    pub(super) fn is_unanswered(&self) -> bool {
        self.unanswered.load(Relaxed)
    }
}

// ===== impl Watched =====

impl<T> Watched<T> {
    pub(super) fn new(io: T, progress: Arc<Progress>) -> Self {
        Self { io, progress }
    }

    fn note_write(&self, result: &Poll<io::Result<usize>>) {
        if matches!(result, Poll::Ready(Ok(1..))) {
            self.progress.unanswered.store(false, Relaxed);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.progress.unanswered.store(true, Relaxed);
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        self.note_write(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.note_write(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

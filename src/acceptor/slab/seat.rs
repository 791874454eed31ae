//! The IO that hyper keeps while connections come and go.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};

use super::stream::Stream;

/// A place for a stream. Without one it takes all that is written, and has nothing to read.
#[derive(Clone, Debug, Default)]
pub(super) struct Seat {
    // hyper wants IO that can be upgraded to be `Send`; the lock is never waited for.
    seated: Arc<Mutex<Seated>>,
}

#[derive(Debug, Default)]
struct Seated {
    stream: Option<Stream>,
    /// What is read before the stream.
    ahead: Bytes,
}

// ===== impl Seat =====

impl Seat {
    fn seated(&self) -> MutexGuard<'_, Seated> {
        // Reading and writing a socket does not panic half-way.
        self.seated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seats a stream, of which `ahead` has been read already.
    pub(super) fn take_in(&self, stream: Stream, ahead: Bytes) {
        *self.seated() = Seated { stream: Some(stream), ahead };
    }

    /// Takes the stream, of which nothing may be unread ahead of it.
    pub(super) fn give_up(&self) -> Option<Stream> {
        let mut seated = self.seated();
        debug_assert!(seated.ahead.is_empty(), "hyper reads all that is ahead in its first poll");
        seated.stream.take()
    }

    /// Takes the stream and what is ahead of it.
    pub(super) fn dissolve(self) -> Option<(Stream, Bytes)> {
        let Seated { stream, ahead } = std::mem::take(&mut *self.seated());
        Some((stream?, ahead))
    }
}

impl Read for Seat {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut seated = self.seated();
        if !seated.ahead.is_empty() {
            let len = buf.remaining().min(seated.ahead.len());
            buf.put_slice(&seated.ahead.split_to(len));
            return Poll::Ready(Ok(()));
        }
        match &mut seated.stream {
            Some(stream) => Pin::new(stream).poll_read(cx, buf),
            None => Poll::Pending,
        }
    }
}

impl Write for Seat {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.seated().stream {
            Some(stream) => Pin::new(stream).poll_write(cx, buf),
            None => Poll::Ready(Ok(buf.len())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.seated().stream {
            Some(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            None => Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket has nothing to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.seated().stream {
            Some(stream) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

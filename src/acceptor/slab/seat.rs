//! The IO that hyper keeps while connections come and go.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};

use super::stream::Stream;
use crate::server::conn::dormant::is_plain;

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
    ahead: &'static [u8],
    /// What was read first, unless something had been read before it was seated.
    first: Option<First>,
    /// hyper has more of the stream than that.
    more: bool,
}

/// The first bytes of a stream.
#[derive(Clone, Copy, Debug)]
struct First {
    len: usize,
    /// There is no `content-length` in them.
    plain: bool,
}

// ===== impl Seat =====

impl Seat {
    fn seated(&self) -> MutexGuard<'_, Seated> {
        // Reading and writing a socket does not panic half-way.
        self.seated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seats a stream. hyper reads `ahead` before it.
    pub(super) fn take_in(&self, stream: Stream, ahead: &'static [u8]) {
        *self.seated() = Seated { stream: Some(stream), ahead, first: None, more: false };
    }

    /// Seats a stream of which hyper is given what was read before.
    pub(super) fn take_in_begun(&self, stream: Stream) {
        *self.seated() = Seated { stream: Some(stream), ahead: &[], first: None, more: true };
    }

    /// Takes the stream.
    pub(super) fn give_up(&self) -> Option<Stream> {
        let mut seated = self.seated();
        debug_assert!(seated.ahead.is_empty(), "hyper reads all that is ahead in its first poll");
        seated.stream.take()
    }

    /// Whether what has been read is known to have no `content-length` in it.
    pub(super) fn is_plain(&self) -> bool {
        let seated = self.seated();
        !seated.more && seated.first.is_some_and(|first| first.plain)
    }

    /// How much was read first.
    pub(super) fn first_len(&self) -> Option<usize> {
        self.seated().first.map(|first| first.len)
    }
}

impl Read for Seat {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let seated = &mut *self.seated();
        if !seated.ahead.is_empty() {
            let (now, later) = seated.ahead.split_at(buf.remaining().min(seated.ahead.len()));
            buf.put_slice(now);
            seated.ahead = later;
            return Poll::Ready(Ok(()));
        }
        let Some(stream) = &mut seated.stream else { return Poll::Pending };
        let (first, more) = (&mut seated.first, &mut seated.more);
        stream.poll_read_and(cx, buf, |read| {
            *more |= first.is_some();
            if !*more {
                *first = Some(First { len: read.len(), plain: is_plain(read) });
            }
        })
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

//! The IO that hyper is given: the user's own, behind the bytes that are replayed.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use super::flags::{Flag, Flags};

/// How many bytes are read on behalf of a connection whose hyper does not read: enough for a pipelined request, and
/// little enough that a client which sends without waiting costs no more than with hyper. What comes after it stays in
/// the socket, and a hang-up behind it is noticed only once these bytes are used.
pub(crate) const LEFTOVER_BYTES_MAX: usize = 8192;

/// Why no more bytes will come.
#[derive(Debug)]
pub(crate) enum End {
    Eof,
    Error(io::Error),
}

/// What hyper reads before it reads from the IO.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    /// The head of a parked request.
    pub(crate) head: &'static [u8],
    /// Bytes that the client sent after it.
    pub(crate) leftover: Vec<u8>,
    /// What comes after those bytes, if it is known.
    pub(crate) end: Option<End>,
}

/// The IO under hyper.
#[derive(Debug)]
pub(crate) struct Io<I> {
    inner: I,
    replay: Replay,
    flags: Arc<Flags>,
    // A client that has only closed its sending half is still there.
    half_close: bool,
}

// ===== impl Io =====

impl<I> Io<I> {
    pub(crate) fn new(inner: I, replay: Replay, flags: Arc<Flags>, half_close: bool) -> Self {
        Self { inner, replay, flags, half_close }
    }

    /// The IO, and the bytes that hyper (`read`) and this wrapper hold of what was read from it.
    pub(crate) fn into_parts(self, read: Bytes) -> (I, Bytes, Option<End>) {
        debug_assert!(self.replay.head.is_empty(), "hyper reads a replayed head in its first poll");
        let leftover = match (read.is_empty(), self.replay.leftover.is_empty()) {
            (_, true) => read,
            (true, false) => Bytes::from(self.replay.leftover),
            (false, false) => Bytes::from([&read[..], &self.replay.leftover].concat()),
        };
        (self.inner, leftover, self.replay.end)
    }
}

impl<I: Read + Unpin> Io<I> {
    /// Fills `buf` with what is replayed, and with what the IO has ready behind it: hyper must see its requests in
    /// the portions in which it would have read them.
    fn poll_replay(&mut self, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) {
        let head = buf.remaining().min(self.replay.head.len());
        buf.put_slice(&self.replay.head[..head]);
        self.replay.head = &self.replay.head[head..];
        if self.replay.leftover.is_empty() {
            return;
        }
        let leftover = buf.remaining().min(self.replay.leftover.len());
        buf.put_slice(&self.replay.leftover[..leftover]);
        if leftover < self.replay.leftover.len() {
            self.replay.leftover.drain(..leftover);
            return;
        }
        self.replay.leftover = Vec::new();
        if buf.remaining() > 0 && self.replay.end.is_none() {
            match self.flags.task_context(cx, |cx| Pin::new(&mut self.inner).poll_read(cx, buf)) {
                Poll::Ready(Ok(())) => self.flags.clear(Flag::PlainFraming),
                Poll::Ready(Err(error)) => self.replay.end = Some(End::Error(error)),
                Poll::Pending => {}
            }
        }
    }

    /// Reads on while hyper does not, for one reason: to notice a client that leaves while its request waits.
    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        if self.half_close || !self.flags.has(Flag::Waiting) || self.flags.has(Flag::ReadPolled) {
            return;
        }
        let Self { inner, replay, flags, .. } = self;
        if replay.end.is_none() {
            replay.end = flags.task_context(cx, |cx| poll_leftover(inner, cx, &mut replay.leftover));
        }
        if replay.end.is_some() {
            flags.set(Flag::PeerGone);
        }
    }
}

/// Reads what the client sends into `leftover`, up to its bound. Returns the end, if there is one.
pub(crate) fn poll_leftover<I: Read + Unpin>(io: &mut I, cx: &mut Context<'_>, leftover: &mut Vec<u8>) -> Option<End> {
    let mut room = [MaybeUninit::uninit(); LEFTOVER_BYTES_MAX];
    while leftover.len() < LEFTOVER_BYTES_MAX {
        let mut buf = ReadBuf::uninit(&mut room[leftover.len()..]);
        match Pin::new(&mut *io).poll_read(cx, buf.unfilled()) {
            Poll::Pending => return None,
            Poll::Ready(Err(error)) => return Some(End::Error(error)),
            Poll::Ready(Ok(())) if buf.filled().is_empty() => return Some(End::Eof),
            Poll::Ready(Ok(())) => {
                leftover.reserve_exact(buf.filled().len());
                leftover.extend_from_slice(buf.filled());
            }
        }
    }
    None
}

impl<I: Read + Unpin> Read for Io<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.flags.set(Flag::ReadPolled);
        if !this.replay.head.is_empty() || !this.replay.leftover.is_empty() {
            this.poll_replay(cx, buf);
            return Poll::Ready(Ok(()));
        }
        match this.replay.end.take() {
            Some(End::Error(error)) => return Poll::Ready(Err(error)),
            Some(End::Eof) => {
                this.replay.end = Some(End::Eof);
                return Poll::Ready(Ok(()));
            }
            None => {}
        }
        let read = this.flags.task_context(cx, |cx| Pin::new(&mut this.inner).poll_read(cx, buf));
        this.flags.put(Flag::ReadBlocked, read.is_pending());
        if read.is_ready() {
            this.flags.clear(Flag::PlainFraming);
        }
        read
    }
}

impl<I: Read + Write + Unpin> Write for Io<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.flags.clear(Flag::Flushed);
        this.flags.task_context(cx, |cx| Pin::new(&mut this.inner).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.flags.clear(Flag::Flushed);
        this.flags.task_context(cx, |cx| Pin::new(&mut this.inner).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // hyper ends each of its rounds with a flush, so that this is the place where it is known not to read.
        this.read_ahead(cx);
        let flush = this.flags.task_context(cx, |cx| Pin::new(&mut this.inner).poll_flush(cx));
        this.flags.put(Flag::Flushed, matches!(flush, Poll::Ready(Ok(()))));
        flush
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.flags.set(Flag::Closing);
        this.flags.task_context(cx, |cx| Pin::new(&mut this.inner).poll_shutdown(cx))
    }
}

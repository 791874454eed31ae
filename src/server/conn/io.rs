//! The IO that hyper is given: the user's own, behind the bytes that are replayed.

use std::io;
use std::mem::{MaybeUninit, replace};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use super::flags::{Flag, Flags};

/// How many bytes are read on behalf of a connection whose hyper does not read: enough for a pipelined request, and
/// little enough that a client which sends without waiting costs no more than with hyper. What comes after it stays in
/// the socket, and a hang-up behind it is noticed only once these bytes are used.
pub(crate) const LEFTOVER_BYTES_MAX: usize = 8192;

/// What is written in one piece though it is in several, as a head and a short body are: to copy that much costs less
/// than to have a kernel, or TLS, look at a list.
const JOINED_BYTES_MAX: usize = 1024;

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
    /// How many of these hyper would have in its buffer, had it not been put away.
    pub(crate) seen: usize,
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
    // The addresses of what hyper has last read into, if that was looked at.
    room: Range<usize>,
}

// ===== impl Io =====

impl<I> Io<I> {
    pub(crate) fn new(inner: I, replay: Replay, flags: Arc<Flags>, half_close: bool) -> Self {
        Self { inner, replay, flags, half_close, room: 0..0 }
    }

    /// The IO, the replay that continues where hyper is, which holds the bytes `read`.
    pub(crate) fn into_parts(self, read: &[u8]) -> (I, Replay) {
        debug_assert!(self.replay.head.is_empty(), "hyper reads a replayed head in its first poll");
        let mut replay = self.replay;
        replay.seen = if read.is_empty() { replay.leftover.len() } else { read.len() };
        replay.leftover.splice(..0, read.iter().copied());
        (self.inner, replay)
    }
}

impl<I: Read + Unpin> Io<I> {
    /// Fills `buf` with what is replayed, in the portions in which hyper would have read it: first what it would have
    /// had in its buffer, then what was read ahead of it, with all that the IO has behind that. hyper parses a head
    /// only with the first portion, and then when it is whole: portions decide when a malformed one is refused.
    fn poll_replay(&mut self, cx: &Context<'_>, mut buf: ReadBufCursor<'_>) {
        let replay = &mut self.replay;
        let head = buf.remaining().min(replay.head.len());
        buf.put_slice(&replay.head[..head]);
        replay.head = &replay.head[head..];
        let ahead = head == 0 && replay.seen == 0;
        let portion = buf.remaining().min(if ahead { replay.leftover.len() } else { replay.seen });
        buf.put_slice(&replay.leftover[..portion]);
        replay.leftover.drain(..portion);
        replay.seen = replay.seen.saturating_sub(portion);
        if replay.leftover.is_empty() {
            // An upgraded connection, too, lives without it.
            replay.leftover = Vec::new();
        }
        if !ahead || buf.remaining() == 0 || replay.end.is_some() {
            return;
        }
        match self.flags.task_context(cx, |cx| Pin::new(&mut self.inner).poll_read(cx, buf)) {
            Poll::Ready(Ok(())) => self.flags.clear(Flag::PlainFraming),
            Poll::Ready(Err(error)) => self.replay.end = Some(End::Error(error)),
            Poll::Pending => {}
        }
    }

    /// Finds out whether the request that waits keeps the buffer that it was read into, by where hyper reads next: into
    /// the same again if nobody has a part of it, and into a new one if somebody has (bytes 1.12, `BytesMut::reserve`).
    /// One that is larger is new because the last was too small.
    fn look_for_kept(&mut self, buf: &mut ReadBufCursor<'_>) {
        let len = buf.remaining();
        let begin = buf.initialize_unfilled_to(len.min(1)).as_ptr().addr();
        let last = replace(&mut self.room, begin..begin + len);
        let is_elsewhere = begin >= last.end || begin + len <= last.start;
        if is_elsewhere && len <= last.len() && self.flags.shows_kept() {
            self.flags.set(Flag::Kept);
        }
    }

    /// Reads on while hyper does not, for one reason: to notice a client that leaves while its request waits. hyper ends
    /// each of its rounds with a flush, or with a write for which there is no room: there it is known not to read.
    fn read_ahead_if(&mut self, round_ends: bool, cx: &Context<'_>) {
        if !round_ends || self.half_close || !self.flags.has(Flag::Waiting) || self.flags.has(Flag::ReadBlocked) {
            return;
        }
        let Self { inner, replay, flags, .. } = self;
        if replay.end.is_none() {
            let before = replay.leftover.len();
            replay.end = flags.task_context(cx, |cx| poll_ahead(inner, cx, &mut replay.leftover));
            if replay.leftover.len() > before {
                flags.clear(Flag::PlainFraming);
            }
        }
        if replay.end.is_some() {
            flags.set(Flag::PeerGone);
        }
    }
}

/// Reads all that the client has sent into `leftover`, up to its bound. Returns the end, if there is one.
pub(crate) fn poll_ahead<I: Read + Unpin>(io: &mut I, cx: &mut Context<'_>, leftover: &mut Vec<u8>) -> Option<End> {
    while leftover.len() < LEFTOVER_BYTES_MAX {
        match poll_some(io, cx, leftover) {
            Poll::Pending => return None,
            Poll::Ready(Some(end)) => return Some(end),
            Poll::Ready(None) => {}
        }
    }
    None
}

/// Reads once into `leftover`, which must not be full. Returns the end, if there is one.
pub(crate) fn poll_some<I: Read + Unpin>(
    io: &mut I,
    cx: &mut Context<'_>,
    leftover: &mut Vec<u8>,
) -> Poll<Option<End>> {
    let mut room = [MaybeUninit::uninit(); LEFTOVER_BYTES_MAX];
    let mut buf = ReadBuf::uninit(&mut room[leftover.len()..]);
    if let Err(error) = ready!(Pin::new(io).poll_read(cx, buf.unfilled())) {
        return Poll::Ready(Some(End::Error(error)));
    }
    if buf.filled().is_empty() {
        return Poll::Ready(Some(End::Eof));
    }
    leftover.reserve_exact(buf.filled().len());
    leftover.extend_from_slice(buf.filled());
    Poll::Ready(None)
}

impl<I: Read + Unpin> Read for Io<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.flags.has(Flag::Released) {
            return Poll::Pending;
        }
        if this.flags.looks_for_kept() {
            this.look_for_kept(&mut buf);
        } else {
            this.room = 0..0;
        }
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
        this.flags.read(read.is_pending());
        read
    }
}

impl<I: Read + Write + Unpin> Write for Io<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.flags.clear(Flag::Flushed);
        if this.flags.has(Flag::Released) {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = this.flags.task_context(cx, |cx| Pin::new(&mut this.inner).poll_write(cx, buf));
        this.read_ahead_if(written.is_pending(), cx);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len: usize = bufs.iter().map(|buf| buf.len()).sum();
        if self.flags.has(Flag::Released) {
            self.flags.clear(Flag::Flushed);
            return Poll::Ready(Ok(len));
        }
        if len <= JOINED_BYTES_MAX {
            let mut room = [MaybeUninit::uninit(); JOINED_BYTES_MAX];
            let mut joined = ReadBuf::uninit(&mut room);
            for buf in bufs {
                joined.unfilled().put_slice(buf);
            }
            return self.poll_write(cx, joined.filled());
        }
        let this = &mut *self;
        this.flags.clear(Flag::Flushed);
        let written = this.flags.task_context(cx, |cx| Pin::new(&mut this.inner).poll_write_vectored(cx, bufs));
        this.read_ahead_if(written.is_pending(), cx);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.flags.has(Flag::Released) {
            this.flags.set(Flag::Flushed);
            return Poll::Ready(Ok(()));
        }
        this.read_ahead_if(true, cx);
        let flush = this.flags.task_context(cx, |cx| Pin::new(&mut this.inner).poll_flush(cx));
        this.flags.put(Flag::Flushed, matches!(flush, Poll::Ready(Ok(()))));
        flush
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.flags.set(Flag::Closing);
        if this.flags.has(Flag::Released) {
            return Poll::Ready(Ok(()));
        }
        this.flags.task_context(cx, |cx| Pin::new(&mut this.inner).poll_shutdown(cx))
    }
}

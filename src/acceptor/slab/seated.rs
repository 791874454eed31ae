//! A stream that hyper has, and what belongs to it for that time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use hyper::rt::{ReadBufCursor, Write as _};

use super::stream::Stream;
use super::traffic::{Arrived, Incoming, Traffic};
use crate::server::conn::dormant::is_plain;

/// How much of what is written in place is kept until the end of the slice. More than that is written at once: to copy it
/// would cost more than is won.
const STAGED_BYTES_MAX: usize = 4096;

/// How much is allocated for that from the start, as all that hyper needs is: most answers are no longer.
const STAGED_BYTES_MIN: usize = 512;

/// The stream in a seat. Without one nothing is read or written.
#[derive(Debug)]
pub(super) struct Seated {
    // The number of the seat.
    seat: usize,
    stream: Option<Stream>,
    /// What is read before the stream.
    ahead: &'static [u8],
    /// What has been read of the stream before it was seated.
    arrived: Option<Arrived>,
    /// What was read first, unless something had been read before it was seated.
    first: Option<First>,
    /// hyper has more of the stream than that.
    more: bool,
    /// What was written in place.
    staged: Vec<u8>,
    /// Nothing is staged: what was had no room, or there is no stream in place.
    direct: bool,
    /// Who waits to write, while somebody else reads.
    writer: Option<Waker>,
}

/// The first bytes of a stream.
#[derive(Clone, Copy, Debug)]
struct First {
    len: usize,
    /// There is no `content-length` in them.
    plain: bool,
}

impl Seated {
    /// For the seat with this number.
    pub(super) fn new(seat: usize) -> Self {
        Self {
            seat,
            stream: None,
            ahead: &[],
            arrived: None,
            first: None,
            more: false,
            staged: Vec::with_capacity(STAGED_BYTES_MIN),
            direct: true,
            writer: None,
        }
    }

    /// Whether it is in the seat with this number.
    #[inline]
    pub(super) fn is_at(&self, seat: usize) -> bool {
        self.seat == seat
    }

    /// A stream comes that is in place, and what there is in `traffic` of its connection. `ahead` is read before it.
    #[inline]
    pub(super) fn take_in(&mut self, stream: Stream, ahead: &'static [u8], traffic: &mut Traffic) {
        debug_assert!(self.staged.is_empty(), "the last stream has taken along what it was to be sent");
        debug_assert!(stream.is_in_place(), "who waits for its stream has it elsewhere");
        self.stream = Some(stream);
        self.ahead = ahead;
        self.arrived = traffic.incoming.take_current();
        traffic.outgoing.take_back(&mut self.staged);
        self.first = None;
        self.more = false;
        self.direct = false;
        self.writer = None;
    }

    /// Something was read of the stream before.
    pub(super) fn set_begun(&mut self) {
        self.more = true;
    }

    /// The stream is in place no more: sends what was written, as far as there is room.
    pub(super) fn settle(&mut self) {
        self.send_at_once();
        self.direct = true;
        if let Some(stream) = &mut self.stream {
            stream.set_in_place(false);
        }
    }

    /// The stream goes, in place again. What it is still to be sent goes into `traffic`.
    #[inline]
    pub(super) fn give_up(&mut self, traffic: &mut Traffic) -> Option<Stream> {
        debug_assert!(self.ahead.is_empty(), "hyper reads all that is ahead in its first poll");
        self.give_back_emptied(&mut traffic.incoming);
        if self.arrived.is_some() {
            tracing::error!("a connection was closed because hyper has not read what it was given");
            return None;
        }
        let mut stream = self.stream.take()?;
        stream.set_in_place(true);
        self.direct = true;
        if !self.staged.is_empty() {
            traffic.outgoing.add(&self.staged);
            self.staged.clear();
        }
        Some(stream)
    }

    /// Whether what has been read is known to have no `content-length` in it.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        !self.more && self.first.is_some_and(|first| first.plain)
    }

    /// How much was read first.
    pub(super) fn first_len(&self) -> Option<usize> {
        self.first.map(|first| first.len)
    }

    #[inline]
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let (now, later) = self.ahead.split_at(buf.remaining().min(self.ahead.len()));
            buf.put_slice(now);
            self.ahead = later;
            return Poll::Ready(Ok(()));
        }
        self.poll_send_to_read(cx);
        let Self { stream: Some(stream), arrived, first, more, .. } = self else { return Poll::Pending };
        let mut look = |read: &[u8]| {
            *more |= first.is_some();
            if !*more {
                *first = Some(First { len: read.len(), plain: is_plain(read) });
            }
        };
        if let Some(arrived) = arrived.as_mut().filter(|arrived| !arrived.is_empty()) {
            let bytes = arrived.take(buf.remaining());
            look(bytes);
            buf.put_slice(bytes);
            return Poll::Ready(Ok(()));
        }
        stream.poll_read_and(cx, buf, look)
    }

    #[inline]
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let len = bufs.iter().map(|buf| buf.len()).sum();
        // Kept until the end of the slice, if it may wait so long.
        if !self.direct && self.staged.len() + len <= STAGED_BYTES_MAX {
            bufs.iter().for_each(|buf| self.staged.extend_from_slice(buf));
            return Poll::Ready(Ok(len));
        }
        ready!(self.poll_send_to_write(cx))?;
        let Some(stream) = &mut self.stream else { return Poll::Pending };
        let written = match bufs {
            [buf] => Pin::new(stream).poll_write(cx, buf),
            bufs => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        // Behind what finds no room nothing is kept: hyper would take it for sent, and go on.
        self.direct |= !matches!(written, Poll::Ready(Ok(written)) if written == len);
        written
    }

    #[inline]
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What waits for the end of the slice is as good as sent. A socket itself has nothing to flush.
        if self.direct { self.poll_send_to_write(cx) } else { Poll::Ready(Ok(())) }
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send_to_write(cx))?;
        let Some(stream) = &mut self.stream else { return Poll::Pending };
        Pin::new(stream).poll_shutdown(cx)
    }

    pub(super) fn give_back_emptied(&mut self, incoming: &mut Incoming) {
        if let Some(emptied) = self.arrived.take_if(|arrived| arrived.is_empty()) {
            incoming.give_back(emptied);
        }
    }

    /// Sends what was kept.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream: Some(stream), staged, direct, .. } = self else { return Poll::Ready(Ok(())) };
        while !staged.is_empty() {
            *direct = true;
            match ready!(Pin::new(&mut *stream).poll_write(cx, staged)) {
                Ok(sent) => drop(staged.drain(..sent)),
                Err(error) => {
                    *staged = Vec::new();
                    return Poll::Ready(Err(error));
                }
            }
            if staged.is_empty() {
                *staged = Vec::new();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The same for who is to write then.
    fn poll_send_to_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = self.poll_send(cx);
        if sent.is_pending() {
            self.writer = Some(cx.waker().clone());
        }
        sent
    }

    /// The same for who reads: of an upgraded stream nobody else may be there to send it. Who waits to write is told, because
    /// a socket wakes one of them alone.
    #[inline]
    fn poll_send_to_read(&mut self, cx: &mut Context<'_>) {
        if self.staged.is_empty() || self.stream.as_ref().is_none_or(Stream::is_in_place) {
            return;
        }
        // An error is found again by who writes, and there may still be something to read.
        if self.poll_send(cx).is_ready() {
            if let Some(writer) = self.writer.take() {
                writer.wake();
            }
        }
    }

    fn send_at_once(&mut self) {
        let Some(stream) = &self.stream else { return };
        if !self.staged.is_empty() {
            // An error is found again by who uses it next.
            let sent = stream.send_at_once(&self.staged).unwrap_or(0);
            // Not kept for more: who has a task of its own stays there, perhaps for long.
            self.staged = self.staged[sent..].to_vec();
        }
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        // A response body, for one, has panicked: the answers before it are written.
        self.send_at_once();
    }
}

//! The IO that hyper keeps while connections come and go.

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use hyper::rt::{Read, ReadBufCursor, Write};

use super::stream::{Stream, is_in_place};
use super::traffic::{Arrived, Incoming, Pending, Traffic};
use crate::server::conn::dormant::is_plain;

/// How much of what is written in place is kept until the end of the slice. More than that is written at once: to copy it
/// would cost more than is won.
const STAGED_BYTES_MAX: usize = 4096;

/// How much is allocated for that from the start, as all that hyper needs is: most answers are no longer.
const STAGED_BYTES_MIN: usize = 512;

/// A place for a stream. Without one there is nothing to read and no end of room to write; hyper is released then, and asks
/// for neither.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    place: Arc<Place>,
}

#[derive(Debug)]
struct Place {
    // hyper wants IO that can be upgraded to be `Send`. The lock is waited for once at most: an upgraded one may be in use
    // elsewhere while the worker lets go of it.
    seated: Mutex<Seated>,
    known: Known,
}

/// What is known of the stream without the lock: in place hyper asks most of its questions only to be sure.
///
/// A descriptor is that of the stream of which something is true in place. Who has the stream elsewhere does not find it
/// true: in place, there, is another, or none.
#[derive(Debug)]
struct Known {
    /// There is nothing to read.
    drained: AtomicI32,
    /// What is written waits for the end of the slice.
    staging: AtomicI32,
    /// See [`Seat::is_plain`].
    plain: AtomicBool,
}

/// No stream's descriptor, and not what stands for none in place either.
const NOBODY: RawFd = RawFd::MIN;

/// Who has the lock. What is true when it is given up becomes known.
struct Guard<'a> {
    seated: MutexGuard<'a, Seated>,
    known: &'a Known,
}

#[derive(Debug, Default)]
struct Seated {
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
    /// Nothing more is staged: what was had no room, or the stream is to go elsewhere.
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

// ===== impl Seat =====

impl Seat {
    pub(super) fn new() -> Self {
        let mut seated = Seated::default();
        seated.staged.reserve_exact(STAGED_BYTES_MIN);
        let known =
            Known { drained: AtomicI32::new(NOBODY), staging: AtomicI32::new(NOBODY), plain: AtomicBool::new(false) };
        Self { place: Arc::new(Place { seated: Mutex::new(seated), known }) }
    }

    fn seated(&self) -> Guard<'_> {
        let Place { seated, known } = &*self.place;
        // Reading and writing a socket does not panic half-way.
        Guard { seated: seated.lock().unwrap_or_else(PoisonError::into_inner), known }
    }

    /// Seats a stream, of which `pending` is. hyper reads `ahead` before it.
    pub(super) fn take_in(&self, stream: Stream, ahead: &'static [u8], pending: Pending) {
        let mut seated = self.seated();
        debug_assert!(seated.staged.is_empty(), "the last stream has taken along what it was to be sent");
        seated.stream = Some(stream);
        seated.ahead = ahead;
        seated.arrived = pending.arrived;
        seated.first = None;
        seated.more = false;
        seated.direct = false;
        seated.writer = None;
        if !pending.owed.is_empty() {
            seated.staged = pending.owed;
        }
    }

    /// hyper is given what was read of the stream before.
    pub(super) fn set_begun(&self) {
        self.seated().more = true;
    }

    /// The stream stays, and others come and go elsewhere: sends what was written, as far as there is room.
    pub(super) fn settle(&self, traffic: &mut Traffic) {
        let mut seated = self.seated();
        seated.send_at_once();
        seated.give_back_emptied(&mut traffic.incoming);
    }

    /// Takes the stream. What it is still to be sent goes into `traffic`.
    pub(super) fn give_up(&self, traffic: &mut Traffic) -> Option<Stream> {
        let mut seated = self.seated();
        debug_assert!(seated.ahead.is_empty(), "hyper reads all that is ahead in its first poll");
        seated.give_back_emptied(&mut traffic.incoming);
        if seated.arrived.is_some() {
            tracing::error!("a connection was closed because hyper has not read what it was given");
            return None;
        }
        let stream = seated.stream.take()?;
        if !seated.staged.is_empty() {
            traffic.outgoing.add(&seated.staged);
            seated.staged.clear();
        }
        Some(stream)
    }

    /// Whether what has been read is known to have no `content-length` in it.
    pub(super) fn is_plain(&self) -> bool {
        self.place.known.plain.load(Ordering::Relaxed)
    }

    /// How much was read first.
    pub(super) fn first_len(&self) -> Option<usize> {
        self.seated().first.map(|first| first.len)
    }
}

// ===== impl Known =====

impl Known {
    fn is_drained(&self) -> bool {
        is_in_place(self.drained.load(Ordering::Relaxed))
    }

    fn is_staging(&self) -> bool {
        is_in_place(self.staging.load(Ordering::Relaxed))
    }

    fn learn(&self, seated: &Seated) {
        let descriptor = seated.stream.as_ref().map_or(NOBODY, Stream::descriptor);
        let whose = |is_true| if is_true { descriptor } else { NOBODY };
        self.drained.store(whose(seated.is_drained()), Ordering::Relaxed);
        self.staging.store(whose(!seated.direct), Ordering::Relaxed);
        self.plain.store(seated.is_plain(), Ordering::Relaxed);
    }
}

// ===== impl Guard =====

impl Deref for Guard<'_> {
    type Target = Seated;

    fn deref(&self) -> &Seated {
        &self.seated
    }
}

impl DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut Seated {
        &mut self.seated
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.known.learn(&self.seated);
    }
}

// ===== impl Seated =====

impl Seated {
    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let len = bufs.iter().map(|buf| buf.len()).sum();
        if self.stream.is_none() || self.stage(len, bufs) {
            return Poll::Ready(Ok(len));
        }
        ready!(self.poll_send_to_write(cx))?;
        let written = match (&mut self.stream, bufs) {
            (Some(stream), [buf]) => Pin::new(stream).poll_write(cx, buf),
            (Some(stream), bufs) => Pin::new(stream).poll_write_vectored(cx, bufs),
            (None, _) => Poll::Ready(Ok(len)),
        };
        // Behind what finds no room nothing is kept: hyper would take it for sent, and go on.
        self.direct |= !matches!(written, Poll::Ready(Ok(written)) if written == len);
        written
    }

    /// Keeps what is written until the end of the slice, if it may wait so long.
    fn stage(&mut self, len: usize, bufs: &[io::IoSlice<'_>]) -> bool {
        let may_wait = self.is_in_place() && !self.direct && self.staged.len() + len <= STAGED_BYTES_MAX;
        if may_wait {
            bufs.iter().for_each(|buf| self.staged.extend_from_slice(buf));
        }
        may_wait
    }

    fn give_back_emptied(&mut self, incoming: &mut Incoming) {
        if let Some(emptied) = self.arrived.take_if(|arrived| arrived.is_empty()) {
            incoming.give_back(emptied);
        }
    }

    fn is_in_place(&self) -> bool {
        self.stream.as_ref().is_some_and(Stream::is_in_place)
    }

    fn is_drained(&self) -> bool {
        self.ahead.is_empty()
            && self.arrived.as_ref().is_none_or(Arrived::is_empty)
            && self.stream.as_ref().is_some_and(Stream::is_drained)
    }

    fn is_plain(&self) -> bool {
        !self.more && self.first.is_some_and(|first| first.plain)
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
    fn poll_send_to_read(&mut self, cx: &mut Context<'_>) {
        if self.staged.is_empty() || self.is_in_place() {
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
        self.direct = true;
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        // A response body, for one, has panicked: the answers before it are written.
        self.send_at_once();
    }
}

impl Read for Seat {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if self.place.known.is_drained() {
            return Poll::Pending;
        }
        let seated = &mut *self.seated();
        if !seated.ahead.is_empty() {
            let (now, later) = seated.ahead.split_at(buf.remaining().min(seated.ahead.len()));
            buf.put_slice(now);
            seated.ahead = later;
            return Poll::Ready(Ok(()));
        }
        seated.poll_send_to_read(cx);
        let (first, more) = (&mut seated.first, &mut seated.more);
        let mut look = |read: &[u8]| {
            *more |= first.is_some();
            if !*more {
                *first = Some(First { len: read.len(), plain: is_plain(read) });
            }
        };
        if let Some(arrived) = seated.arrived.as_mut().filter(|arrived| !arrived.is_empty()) {
            let bytes = arrived.take(buf.remaining());
            look(bytes);
            buf.put_slice(bytes);
            return Poll::Ready(Ok(()));
        }
        let Some(stream) = &mut seated.stream else { return Poll::Pending };
        stream.poll_read_and(cx, buf, look)
    }
}

impl Write for Seat {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.seated().poll_write(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.seated().poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What waits in place for the end of the slice is as good as sent. A socket itself has nothing to flush.
        if self.place.known.is_staging() { Poll::Ready(Ok(())) } else { self.seated().poll_send_to_write(cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let seated = &mut *self.seated();
        ready!(seated.poll_send_to_write(cx))?;
        match &mut seated.stream {
            Some(stream) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

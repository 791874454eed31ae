//! A client's socket, which needs a reactor only while it is in a task of its own.

use std::cell::RefCell;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::reactor;

/// How much is read at once: as much as hyper's first buffer has room for.
pub(super) const READ_BYTES_MAX: usize = 8192;

/// A non-blocking TCP or Unix socket.
///
/// In place it does what it can at once, and otherwise says so: the worker has it in a poll of its own. Anywhere else,
/// in a task that it has graduated to or in the hands of who has upgraded it, it registers with tokio when it first has
/// to wait.
#[derive(Debug)]
pub(super) struct Stream {
    // Before the socket: it has to be deregistered while its descriptor is still this socket's.
    reactor: Option<Box<AsyncFd<Descriptor>>>,
    socket: Socket,
    input: Input,
    // The direction that was not tried since it was registered: tokio may have had no time yet to tell of it.
    untried: Option<Direction>,
    // It does not wait: what cannot be done at once is pending, and nobody is woken.
    in_place: bool,
}

/// What is known of what the client has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// There may be something to read.
    Unknown,
    /// There was nothing more to read, and no event since.
    Drained,
    /// The client has closed its half, or all: the end of file is there, without another event.
    HungUp,
}

/// A descriptor that someone else owns.
#[derive(Debug)]
struct Descriptor(RawFd);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

thread_local! {
    // One buffer for all sockets of a thread: what is read is copied on, and never waits here.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES_MAX].into_boxed_slice());
}

// ===== impl Direction =====

impl Direction {
    fn other(self) -> Self {
        match self {
            Self::Read => Self::Write,
            Self::Write => Self::Read,
        }
    }
}

// ===== impl Stream =====

impl Stream {
    /// In place.
    pub(super) fn new(socket: Socket, input: Input) -> Self {
        Self { reactor: None, socket, input, untried: None, in_place: true }
    }

    pub(super) fn into_socket(self) -> (Socket, Input) {
        (self.socket, self.input)
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Sends what it can without a wait, see [`send`].
    pub(super) fn send_at_once(&self, bytes: &[u8]) -> io::Result<usize> {
        send(&self.socket, bytes)
    }

    /// An event has come: there is something to read, or the end of file.
    pub(super) fn set_readable(&mut self, hung_up: bool) {
        if self.input != Input::HungUp {
            self.input = if hung_up { Input::HungUp } else { Input::Unknown };
        }
    }

    pub(super) fn is_in_place(&self) -> bool {
        self.in_place
    }

    pub(super) fn set_in_place(&mut self, in_place: bool) {
        self.in_place = in_place;
    }

    /// Whether there is nothing to read before the next event.
    pub(super) fn is_drained(&self) -> bool {
        self.input == Input::Drained
    }

    /// Acts on the socket, and outside of a worker's loop waits until that is possible.
    fn poll_socket<R>(
        &mut self,
        cx: &mut Context<'_>,
        direction: Direction,
        mut act: impl FnMut(&Socket) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        // A socket that is new to tokio is not ready before its first event, so that it is tried first.
        if self.in_place || self.reactor.is_none() {
            if let Some(done) = attempt(|| act(&self.socket)) {
                return Poll::Ready(done);
            }
            if self.in_place {
                return Poll::Pending;
            }
        }
        if self.reactor.is_none() {
            let both = Interest::READABLE | Interest::WRITABLE;
            let reactor = reactor::watch(Descriptor(self.socket.as_raw_fd()), both)?;
            self.reactor = Some(Box::new(reactor));
            self.untried = Some(direction.other());
        }
        let Some(reactor) = &self.reactor else { return Poll::Pending };
        let untried = self.untried.take_if(|untried| *untried == direction).is_some();
        loop {
            let ready = match direction {
                Direction::Read => reactor.poll_read_ready(cx),
                Direction::Write => reactor.poll_write_ready(cx),
            };
            let mut ready = match ready {
                Poll::Ready(ready) => ready?,
                // To say that it has to wait when it has not would be seen: hyper 1.12 drains a body only as far as that
                // can be read at once, and drops the response to an upgrade that cannot be written at once.
                Poll::Pending if untried => return attempt(|| act(&self.socket)).map_or(Poll::Pending, Poll::Ready),
                Poll::Pending => return Poll::Pending,
            };
            match attempt(|| act(&self.socket)) {
                Some(done) => return Poll::Ready(done),
                None => ready.clear_ready(),
            }
        }
    }
}

/// `None` if it would block.
pub(super) fn attempt<R>(mut act: impl FnMut() -> io::Result<R>) -> Option<io::Result<R>> {
    loop {
        match act() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return Some(done),
        }
    }
}

/// Sends as much as there is room for. Returns how much that was.
pub(super) fn send(mut socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match attempt(|| socket.write(&bytes[sent..])) {
            Some(len) => sent += len?,
            None => break,
        }
    }
    Ok(sent)
}

impl Stream {
    /// Reads, and lets `look` see what came.
    pub(super) fn poll_read_and(
        &mut self,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
        look: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<()>> {
        let this = self;
        if this.is_drained() && this.is_in_place() {
            return Poll::Pending;
        }
        BUFFER.with_borrow_mut(|room| {
            let room_len = room.len().min(buf.remaining());
            let room = &mut room[..room_len];
            let read = this.poll_socket(cx, Direction::Read, |mut socket| socket.read(room));
            if this.input != Input::HungUp {
                // What did not fill the buffer has emptied the socket; an event tells of more.
                let drained = match &read {
                    Poll::Ready(Ok(len)) => *len < room_len,
                    Poll::Pending => true,
                    Poll::Ready(Err(_)) => false,
                };
                this.input = if drained { Input::Drained } else { Input::Unknown };
            }
            read.map_ok(|len| {
                look(&room[..len]);
                buf.put_slice(&room[..len]);
            })
        })
    }
}

impl Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        self.poll_read_and(cx, buf, |_| {})
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_socket(cx, Direction::Write, |mut socket| socket.write(buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_socket(cx, Direction::Write, |mut socket| socket.write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shutdown(std::net::Shutdown::Write))
    }
}

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

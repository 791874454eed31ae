//! The IO under a connection: the driver decides what is there to read and how much can be written.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use hyper::rt::{Read, ReadBufCursor, Write};

use super::log::{Actor, Log};

/// How an IO behaves.
#[derive(Clone, Copy, Debug)]
pub struct WireSettings {
    /// The most bytes that one read gives.
    pub read_max: usize,
    /// Whether it takes vectored writes.
    pub vectored: bool,
    /// Bytes that it takes without having room for them, as TLS does: a flush is needed to write them.
    pub buffer_max: usize,
    /// Bytes that can be written before the driver allows more.
    pub window: usize,
}

/// Room that a shutdown needs where writes are buffered, as TLS says goodbye.
const GOODBYE_BYTES: usize = 20;

/// What a read finds behind all bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Eof,
    Reset,
}

#[derive(Debug, Default)]
struct State {
    inbound: VecDeque<u8>,
    end: Option<End>,
    reader: Option<Waker>,
    window: usize,
    buffered: VecDeque<u8>,
    written: Vec<u8>,
    write_error: bool,
    writer: Option<Waker>,
}

/// The driver's side.
#[derive(Debug)]
pub struct Wire {
    settings: WireSettings,
    state: Mutex<State>,
}

/// The connection's side.
#[derive(Debug)]
pub struct WireIo {
    wire: Arc<Wire>,
    log: Log,
}

// ===== impl Wire =====

impl Wire {
    pub fn new(settings: WireSettings) -> Arc<Self> {
        let state = State { window: settings.window, ..State::default() };
        Arc::new(Self { settings, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut State), reader: bool) {
        let mut state = self.state();
        change(&mut state);
        let waker = if reader { state.reader.take() } else { state.writer.take() };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub fn deliver(&self, bytes: &[u8]) {
        self.change(|state| state.inbound.extend(bytes), true);
    }

    pub fn end(&self, end: End) {
        self.change(|state| state.end = state.end.or(Some(end)), true);
    }

    pub fn allow(&self, bytes: usize) {
        self.change(|state| state.window = state.window.saturating_add(bytes), false);
    }

    pub fn break_writes(&self) {
        self.change(|state| state.write_error = true, false);
    }

    pub fn has_ended(&self) -> bool {
        self.state().end.is_some()
    }

    /// Bytes delivered and not read.
    pub fn unread(&self) -> Vec<u8> {
        self.state().inbound.iter().copied().collect()
    }

    /// Bytes on the wire since this was last called.
    pub fn take_written(&self) -> Vec<u8> {
        std::mem::take(&mut self.state().written)
    }

    /// Whether a write, a flush or a shutdown may find no room.
    pub fn is_full(&self) -> bool {
        let state = self.state();
        state.window < GOODBYE_BYTES || !state.buffered.is_empty()
    }
}

impl State {
    fn drain_buffered(&mut self) {
        let len = self.window.min(self.buffered.len());
        self.window -= len;
        self.written.extend(self.buffered.drain(..len));
    }

    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
        settings: &WireSettings,
        mut buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.write_error {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, "broken by the driver")));
        }
        self.drain_buffered();
        let room = if settings.buffer_max > 0 { settings.buffer_max - self.buffered.len() } else { self.window };
        if room == 0 && !buf.is_empty() {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        buf = &buf[..buf.len().min(room)];
        if settings.buffer_max > 0 {
            self.buffered.extend(buf);
        } else {
            self.window -= buf.len();
            self.written.extend_from_slice(buf);
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_error && !self.buffered.is_empty() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, "broken by the driver")));
        }
        self.drain_buffered();
        if self.buffered.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

// ===== impl WireIo =====

impl WireIo {
    pub fn new(wire: Arc<Wire>, log: Log) -> Self {
        Self { wire, log }
    }
}

impl Read for WireIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut state = self.wire.state();
        if state.inbound.is_empty() {
            return match state.end {
                Some(End::Eof) => Poll::Ready(Ok(())),
                Some(End::Reset) => {
                    Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, "reset by the driver")))
                }
                None => {
                    state.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        }
        assert!(buf.remaining() > 0, "a read without room looks like an end of file");
        let len = state.inbound.len().min(buf.remaining()).min(self.wire.settings.read_max);
        let bytes: Vec<u8> = state.inbound.drain(..len).collect();
        buf.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl Write for WireIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.wire.state().poll_accept(cx, &self.wire.settings, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let buf = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
        self.wire.state().poll_accept(cx, &self.wire.settings, buf)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.settings.vectored
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.state().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.wire.state();
        let flushed = state.poll_flush(cx);
        let goodbye = if self.wire.settings.buffer_max > 0 { GOODBYE_BYTES } else { 0 };
        if flushed.is_ready() && state.window < goodbye {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        if flushed.is_ready() {
            self.log.note(Actor::Io, "shut down");
        }
        flushed
    }
}

impl Drop for WireIo {
    fn drop(&mut self) {
        self.log.note(Actor::Io, "dropped");
    }
}

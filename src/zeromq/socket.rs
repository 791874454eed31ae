//! A thread that owns a ZeroMQ socket: the one place that waits for it.
//!
//! libzmq's sockets belong to one thread at a time, and its `ZMQ_FD` is edge-triggered and takes its edges with it in
//! every call. `zmq_poll` knows of both. The thread sleeps in it until the socket, a command or a timer has something.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::frames::Frames;

/// Decides what is sent; knows nothing of sockets, threads and clocks.
pub(super) trait Machine: Send + 'static {
    type Command: Send;

    /// A message of more frames than this is not the protocol's: what is past it is dropped while it is read.
    const FRAMES_MAX: usize = 16;

    fn command(&mut self, command: Self::Command, now: Instant);

    fn received(&mut self, frames: Frames, now: Instant);

    /// Does what is due. Returns when it wants to be asked again, if nothing else happens.
    fn tick(&mut self, now: Instant) -> Option<Instant>;

    /// The next message to send.
    fn outgoing(&mut self) -> Option<Frames>;

    /// A message could not be sent, because there is no such peer or because it does not read.
    fn unsent(&mut self, frames: Frames, why: Unsent, now: Instant);

    /// There is nothing left to do.
    fn is_over(&self) -> bool;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    NoSuchPeer,
    /// Its high-water mark is reached. For a socket that has one peer this is not told: the message waits.
    Full,
    Failed,
}

/// Gives commands to a [`Machine`] on its thread.
pub(super) struct Commander<C> {
    commands: mpsc::Sender<C>,
    bell: Arc<Bell>,
}

/// Wakes the thread: one byte in a socket pair, and only if none is there.
struct Bell {
    rung: AtomicBool,
    writable: UnixStream,
}

/// A turn takes so many commands and messages before it sends: enough to amortize the poll, few enough that a flood of
/// one kind does not hold up the others.
const SLICE: usize = 256;

/// Frames longer than this are kept where libzmq has them; shorter ones are cheaper to copy.
const COPY_BYTES_MAX: usize = 1024;

/// A connection is not given up because a machine was busy for a moment.
const ZMTP_HEARTBEAT_MS_MIN: i32 = 1000;

/// The process's ZeroMQ context. One for all, so that `inproc://` endpoints meet.
pub(super) fn context() -> &'static zmq::Context {
    static CONTEXT: LazyLock<zmq::Context> = LazyLock::new(zmq::Context::new);
    &CONTEXT
}

/// A machine's mailbox, before its thread runs.
pub(super) struct Mailbox<C> {
    commands: mpsc::Receiver<C>,
    readable: UnixStream,
    bell: Arc<Bell>,
}

pub(super) fn mailbox<C>() -> io::Result<(Commander<C>, Mailbox<C>)> {
    let (commands, received) = mpsc::channel();
    let (readable, writable) = UnixStream::pair()?;
    readable.set_nonblocking(true)?;
    writable.set_nonblocking(true)?;
    let bell = Arc::new(Bell { rung: AtomicBool::new(false), writable });
    Ok((Commander { commands, bell: bell.clone() }, Mailbox { commands: received, readable, bell }))
}

/// Runs `machine` on a thread of its own until it is over.
pub(super) fn spawn<M: Machine>(
    name: &str,
    socket: zmq::Socket,
    mailbox: Mailbox<M::Command>,
    machine: M,
) -> io::Result<()>
where
    M::Command: 'static,
{
    let mut driver = Driver { socket, mailbox, machine, waiting: None, more: true, due: None };
    thread::Builder::new().name(name.into()).spawn(move || {
        while !driver.machine.is_over() {
            driver.turn();
        }
    })?;
    Ok(())
}

struct Driver<M: Machine> {
    socket: zmq::Socket,
    mailbox: Mailbox<M::Command>,
    machine: M,
    // A message that the socket had no room for.
    waiting: Option<Frames>,
    // A slice was full: there may be more.
    more: bool,
    // When the machine wants to be asked again.
    due: Option<Instant>,
}

// ===== impl Commander =====

impl<C> Commander<C> {
    /// Never waits. A thread that has ended ignores it.
    pub(super) fn command(&self, command: C) -> Result<(), C> {
        self.commands.send(command).map_err(|mpsc::SendError(command)| command)?;
        self.bell.ring();
        Ok(())
    }
}

impl<C> Clone for Commander<C> {
    fn clone(&self) -> Self {
        Self { commands: self.commands.clone(), bell: self.bell.clone() }
    }
}

// ===== impl Bell =====

impl Bell {
    fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            // An empty socket pair has room for a byte.
            let _one_byte = (&self.writable).write(&[1]);
        }
    }
}

// ===== impl Mailbox =====

impl<C> Mailbox<C> {
    /// To be followed by a look at the commands. In this order: who finds the bell rung has given its command before,
    /// and who rings it again leaves a byte.
    fn silence(&self) {
        let _few_bytes = (&self.readable).read(&mut [0; 16]);
        self.bell.rung.store(false, Ordering::SeqCst);
    }
}

// ===== impl Driver =====

impl<M: Machine> Driver<M> {
    fn turn(&mut self) {
        if self.wait() {
            self.mailbox.silence();
        }
        self.more = false;
        self.take_commands();
        self.take_messages();
        // After the messages: time that passed while they lay here unread is not their senders' silence.
        self.due = self.machine.tick(Instant::now());
        self.send_all();
    }

    /// Returns whether the bell was heard.
    fn wait(&self) -> bool {
        let timeout_ms = match self.due {
            _ if self.more => 0,
            // Rounded up: a millisecond late is on time, one early is a turn for nothing.
            Some(due) => {
                due.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000).try_into().unwrap_or(i64::MAX)
            }
            None => -1,
        };
        let events = if self.waiting.is_some() { zmq::POLLIN | zmq::POLLOUT } else { zmq::POLLIN };
        let mut items =
            [self.socket.as_poll_item(events), zmq::PollItem::from_fd(self.mailbox.readable.as_raw_fd(), zmq::POLLIN)];
        match zmq::poll(&mut items, timeout_ms) {
            Ok(_) | Err(zmq::Error::EINTR) => {}
            Err(error) => tracing::error!(%error, "waiting for a ZeroMQ socket failed"),
        }
        items[1].is_readable()
    }

    fn take_commands(&mut self) {
        let now = Instant::now();
        for _ in 0..SLICE {
            let Ok(command) = self.mailbox.commands.try_recv() else { return };
            self.machine.command(command, now);
        }
        self.more = true;
    }

    fn take_messages(&mut self) {
        let now = Instant::now();
        for _ in 0..SLICE {
            let Some(frames) = self.receive() else { return };
            self.machine.received(frames, now);
        }
        self.more = true;
    }

    /// The next message, whole: libzmq gives out the first frame only when all have come.
    fn receive(&self) -> Option<Frames> {
        let mut frames = Vec::new();
        loop {
            let frame = match self.socket.recv_msg(zmq::DONTWAIT) {
                Ok(frame) => frame,
                Err(zmq::Error::EINTR) => continue,
                Err(zmq::Error::EAGAIN) => return None,
                Err(error) => {
                    tracing::error!(%error, "receiving from a ZeroMQ socket failed");
                    return None;
                }
            };
            let more = frame.get_more();
            if frames.len() < M::FRAMES_MAX {
                frames.push(bytes(frame));
            }
            if !more {
                return Some(frames);
            }
        }
    }

    fn send_all(&mut self) {
        while let Some(frames) = self.waiting.take().or_else(|| self.machine.outgoing()) {
            match self.send(&frames) {
                Ok(()) => {}
                Err(zmq::Error::EAGAIN) if !self.is_router() => {
                    self.waiting = Some(frames);
                    return;
                }
                Err(error) => {
                    let why = match error {
                        zmq::Error::EHOSTUNREACH => Unsent::NoSuchPeer,
                        zmq::Error::EAGAIN => Unsent::Full,
                        error => {
                            tracing::error!(%error, "sending to a ZeroMQ socket failed");
                            Unsent::Failed
                        }
                    };
                    self.machine.unsent(frames, why, Instant::now());
                }
            }
        }
    }

    /// All frames or none: only the first can fail for want of a peer or of room.
    fn send(&self, frames: &[Bytes]) -> Result<(), zmq::Error> {
        for (n, frame) in frames.iter().enumerate() {
            let more = if n + 1 < frames.len() { zmq::SNDMORE } else { 0 };
            loop {
                match self.socket.send(&frame[..], zmq::DONTWAIT | more) {
                    Err(zmq::Error::EINTR) => {}
                    Err(error) => return Err(error),
                    Ok(()) => break,
                }
            }
        }
        Ok(())
    }

    fn is_router(&self) -> bool {
        self.socket.get_socket_type() == Ok(zmq::ROUTER)
    }
}

/// A frame that libzmq keeps, as bytes.
struct Frame(zmq::Message);

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn bytes(frame: zmq::Message) -> Bytes {
    if frame.len() <= COPY_BYTES_MAX { Bytes::copy_from_slice(&frame) } else { Bytes::from_owner(Frame(frame)) }
}

/// ZMTP's own heartbeats, which libzmq's thread answers also while the application is busy: they find a peer whose host
/// has gone without closing its connection.
pub(super) fn set_heartbeat(socket: &zmq::Socket, every: Duration) -> Result<(), zmq::Error> {
    let every_ms = i32::try_from(every.as_millis()).unwrap_or(i32::MAX).max(ZMTP_HEARTBEAT_MS_MIN);
    socket.set_heartbeat_ivl(every_ms)?;
    socket.set_heartbeat_timeout(every_ms.saturating_mul(3))
}

//! Binding; and what to do when accepting fails: an error of one connection is skipped, one of the process waited out.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::Instant;

/// How many connections the kernel keeps that wait to be accepted. When a server comes back all its clients come at once,
/// and one that finds the queue full tries again a second later; the standard library's 128 are few for that. The
/// kernel's own limit (`net.core.somaxconn`, 4096 on Linux) is not passed.
const BACKLOG: i32 = 4096;
/// The first pause after the process could not take another connection: a descriptor is often free again soon.
const BACKOFF_MIN: Duration = Duration::from_millis(5);
/// The longest pause. Each failure doubles it up to here, where new clients wait no longer than they would for a lost
/// packet, and where trying costs nothing that shows.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Failures that are no further apart than this are one burst, logged once: near the limit, connections that close
/// let one in now and then, and each would begin another burst.
const BURST_GAP: Duration = Duration::from_secs(10);

/// How long to wait after an error that the next attempt would most likely meet again: `EMFILE`, `ENFILE`, `ENOBUFS`,
/// `ENOMEM`.
///
/// The connection stays in the queue meanwhile and the error is there at once, so that trying again without a pause would
/// keep the thread busy with nothing.
pub(super) struct Backoff {
    pause: Duration,
    last_failure: Option<Instant>,
}

// ===== impl Backoff =====

impl Default for Backoff {
    fn default() -> Self {
        Self { pause: BACKOFF_MIN, last_failure: None }
    }
}

impl Backoff {
    /// A connection has been accepted.
    pub(super) fn succeeded(&mut self) {
        self.pause = BACKOFF_MIN;
    }

    /// None could be. Logs the first of a burst, and tells how long to wait.
    pub(super) fn failed(&mut self, error: &io::Error) -> Duration {
        let now = Instant::now();
        let in_burst = self.last_failure.is_some_and(|last| now.duration_since(last) < BURST_GAP);
        self.last_failure = Some(now);
        if in_burst {
            tracing::debug!(%error, pause = ?self.pause, "still cannot accept connections");
        } else {
            tracing::error!(%error, "cannot accept connections, those that are there are served on");
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(BACKOFF_MAX);
        pause
    }
}

// ===== helpers =====

/// Listens on the first of the addresses that can be bound.
pub(super) fn bind(addr: impl ToSocketAddrs) -> io::Result<Socket> {
    let mut failed = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address to listen on");
    for addr in addr.to_socket_addrs()? {
        match listen(addr) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn listen(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // Elsewhere connections of the last server block the address for minutes. On Windows the option means that two
    // servers may have it at once.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Whether the error is that of the one connection which would have been accepted.
///
/// A client that has reset its connection in the queue is `ECONNABORTED` on the BSDs and macOS. Linux hands that
/// connection out, and its first read says what has become of it; the network errors that it may pass on instead
/// (accept(2), "Error handling") are none that a test could cause. To see them skipped there, have them injected:
/// `strace -f -e inject=accept4:error=ECONNABORTED:when=1..3` around a server.
pub(super) fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
    )
}

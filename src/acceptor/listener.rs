//! Binding; and accepting, come what may: an error of one connection is skipped, and one of the process is waited out.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
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

/// Accepts connections and remembers how that went.
pub(super) struct Listener {
    socket: TcpListener,
    backoff: Duration,
    last_failure: Option<Instant>,
}

// ===== impl Listener =====

impl Listener {
    pub(super) fn new(socket: TcpListener) -> Self {
        Self { socket, backoff: BACKOFF_MIN, last_failure: None }
    }

    /// The next connection. Its bytes go out as they are written: Nagle's algorithm is off.
    ///
    /// Cancel safe: a connection that was not returned is still in the queue.
    pub(super) async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    self.backoff = BACKOFF_MIN;
                    match stream.set_nodelay(true) {
                        Ok(()) => return (stream, peer),
                        // The client may have reset the connection by now, which is no reason to serve it.
                        Err(error) => tracing::debug!(%peer, %error, "a connection was gone when it was accepted"),
                    }
                }
                Err(error) if is_connection_error(&error) => {
                    tracing::debug!(%error, "a connection was gone before it was accepted");
                }
                Err(error) => self.back_off(&error).await,
            }
        }
    }

    /// Waits after an error that the next attempt would most likely meet again: `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`.
    ///
    /// The connection stays in the queue meanwhile and the error is there at once, so that trying again without a pause
    /// would keep the thread busy with nothing.
    async fn back_off(&mut self, error: &io::Error) {
        let now = Instant::now();
        let in_burst = self.last_failure.is_some_and(|last| now.duration_since(last) < BURST_GAP);
        self.last_failure = Some(now);
        if in_burst {
            tracing::debug!(%error, pause = ?self.backoff, "still cannot accept connections");
        } else {
            tracing::error!(%error, "cannot accept connections, those that are there are served on");
        }
        let pause = self.backoff;
        self.backoff = (pause * 2).min(BACKOFF_MAX);
        tokio::time::sleep(pause).await;
    }
}

// ===== helpers =====

/// Listens on the first of the addresses that can be bound.
pub(super) fn bind(addr: impl ToSocketAddrs) -> io::Result<std::net::TcpListener> {
    let mut failed = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address to listen on");
    for addr in addr.to_socket_addrs()? {
        match listen(addr) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn listen(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // Elsewhere connections of the last server block the address for minutes. On Windows the option means that two
    // servers may have it at once.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Whether the error is that of the one connection which would have been accepted. Linux passes on the network errors
/// that are already pending on it (accept(2), "Error handling").
fn is_connection_error(error: &io::Error) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_failure_of_a_burst_is_waited_out_longer_up_to_a_bound() {
        let mut listener = Listener::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let start = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let before = Instant::now();
            listener.back_off(&io::ErrorKind::OutOfMemory.into()).await;
            pauses.push(before.elapsed().as_millis());
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert!(start.elapsed() < BURST_GAP, "all of it was one burst");
    }
}

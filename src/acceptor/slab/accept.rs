//! The listening socket, in the worker's own poll.

use std::io;
use std::os::fd::OwnedFd;

use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use socket2::Socket;
use tokio::time::Instant;

use super::super::listener::{Backoff, is_connection_error};
use super::entries::Peer;

/// Accepts until there is nothing to accept, and pauses when it cannot.
pub(super) struct Accept {
    socket: Listening,
    /// There may be someone in the queue.
    ready: bool,
    backoff: Backoff,
    paused_until: Option<Instant>,
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

// ===== impl Accept =====

impl Accept {
    /// Takes a non-blocking listener and registers it.
    pub(super) fn new(listener: Socket, registry: &Registry, token: Token) -> io::Result<Self> {
        let mut socket = if listener.domain()? == socket2::Domain::UNIX {
            Listening::Unix(UnixListener::from_std(OwnedFd::from(listener).into()))
        } else {
            Listening::Tcp(TcpListener::from_std(OwnedFd::from(listener).into()))
        };
        match &mut socket {
            Listening::Tcp(socket) => registry.register(socket, token, Interest::READABLE)?,
            Listening::Unix(socket) => registry.register(socket, token, Interest::READABLE)?,
        }
        Ok(Self { socket, ready: true, backoff: Backoff::default(), paused_until: None })
    }

    /// Stops listening. Another worker may have the socket too, which is why that has to be told.
    pub(super) fn close(mut self, registry: &Registry) {
        let deregistered = match &mut self.socket {
            Listening::Tcp(socket) => registry.deregister(socket),
            Listening::Unix(socket) => registry.deregister(socket),
        };
        if let Err(error) = deregistered {
            tracing::debug!(%error, "the listener was not watched any more");
        }
    }

    pub(super) fn set_ready(&mut self) {
        self.ready = true;
    }

    /// Whether another attempt is due. A pause that is over is forgotten, whatever comes of that attempt: there may be no
    /// place for a client.
    pub(super) fn is_ready(&mut self, now: Instant) -> bool {
        self.paused_until = self.paused_until.filter(|until| *until > now);
        self.ready && self.paused_until.is_none()
    }

    /// When the pause is over, if there is one.
    pub(super) fn resumes_at(&self) -> Option<Instant> {
        self.paused_until
    }

    /// The next client, if there is one now.
    pub(super) fn accept(&mut self, now: Instant) -> Option<(Socket, Peer)> {
        loop {
            match self.try_accept() {
                Ok(accepted) => {
                    self.backoff.succeeded();
                    return Some(accepted);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ready = false;
                    return None;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_connection_error(&error) => {
                    tracing::debug!(%error, "a connection was gone before it was accepted");
                }
                Err(error) => {
                    self.paused_until = Some(now + self.backoff.failed(&error));
                    return None;
                }
            }
        }
    }

    fn try_accept(&self) -> io::Result<(Socket, Peer)> {
        match &self.socket {
            Listening::Tcp(socket) => {
                let (stream, peer) = socket.accept()?;
                // Its bytes go out as they are written. The client may have reset the connection by now; then the
                // next read says so.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%peer, %error, "a connection was gone when it was accepted");
                }
                Ok((OwnedFd::from(stream).into(), peer.into()))
            }
            Listening::Unix(socket) => {
                let (stream, _) = socket.accept()?;
                Ok((OwnedFd::from(stream).into(), Peer::Unnamed))
            }
        }
    }
}

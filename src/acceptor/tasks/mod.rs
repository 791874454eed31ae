//! Each connection in a task of its own, which is dormant while it waits.
//!
//! For platforms without descriptors that a slab could watch. Clients are served as with the slab; a connection that
//! waits costs a task and a registration with tokio more. Of its numbers those that only a slab has stay at zero. Two limits
//! are less exact: whether one more request may be parked is looked at when its future is first pending, be it for the
//! request's own body; and a worker that waits for a client keeps one of the places of `max_connections`.

mod connection;
mod counted;
mod drain;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use tokio::net::{TcpListener, TcpStream};

use super::listener::{Backoff, is_connection_error};
use super::share::Share;
use crate::BoxError;
use drain::Drain;

/// Accepts connections and remembers how that went.
struct Listener {
    socket: TcpListener,
    backoff: Backoff,
}

/// Accepts and serves until `stop` resolves, and then until every connection has ended.
pub(super) async fn serve<S, B>(
    listener: socket2::Socket,
    service: S,
    share: Share,
    stop: impl Future<Output = ()>,
) -> io::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<B>> + 'static,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    let _watched = share.config.watched();
    let mut listener = Listener { socket: TcpListener::from_std(listener.into())?, backoff: Backoff::default() };
    let service = Rc::new(service);
    let share = Rc::new(share);
    let drain = Drain::new();
    let mut stop = pin!(stop);
    loop {
        let next = async {
            // Held by the connection: past the limit nobody is accepted until one leaves.
            let place = share.room.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, (stream, peer)) = tokio::select! {
            biased;
            () = stop.as_mut() => break,
            accepted = next => accepted,
        };
        share.counters.accepted.increment();
        let connection = connection::serve(stream, peer, service.clone(), share.clone(), drain.stop());
        tokio::task::spawn_local(async move {
            let _place = place;
            connection.await;
        });
    }
    // Closed before anything else, so that new clients are refused and go elsewhere.
    drop(listener);
    drain.finish(share.config.shutdown_timeout).await;
    Ok(())
}

impl Listener {
    /// The next connection. Its bytes go out as they are written: Nagle's algorithm is off.
    ///
    /// Cancel safe: a connection that was not returned is still in the queue.
    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    self.backoff.succeeded();
                    match stream.set_nodelay(true) {
                        Ok(()) => return (stream, peer),
                        // The client may have reset the connection by now, which is no reason to serve it.
                        Err(error) => tracing::debug!(%peer, %error, "a connection was gone when it was accepted"),
                    }
                }
                Err(error) if is_connection_error(&error) => {
                    tracing::debug!(%error, "a connection was gone before it was accepted");
                }
                Err(error) => tokio::time::sleep(self.backoff.failed(&error)).await,
            }
        }
    }
}

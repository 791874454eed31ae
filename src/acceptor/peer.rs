//! Who a request comes from.

use std::net::SocketAddr;

/// The address of the client, found in the extensions of each request unless
/// [`Acceptor::peer_addr`](super::Acceptor::peer_addr) is `false`.
///
/// ```
/// # use hyper_deferred::PeerAddr;
/// fn is_local<B>(request: &http::Request<B>) -> bool {
///     request.extensions().get::<PeerAddr>().is_some_and(|peer| peer.0.ip().is_loopback())
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddr(pub SocketAddr);

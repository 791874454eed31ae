//! Everyone who waits, in one slab, served in place.
//!
//! | file | concept |
//! |---|---|
//! | `worker.rs` | the loop: accepts, events, wakes and deadlines in slices |
//! | `common.rs` | what all connections of a loop have in common |
//! | `held.rs` | one connection taken out of the slab, and put back |
//! | `serve.rs` | one connection in place: hyper built, driven, and put away again |
//! | `engine.rs`, `seat.rs` | a live hyper, which one connection after another may have |
//! | `seated.rs` | what hyper reads and writes of the connection that has it |
//! | `graduate.rs` | a connection that has to wait on IO, in a task of its own |
//! | `entries.rs` | the slab |
//! | `events.rs` | what the kernel tells of its sockets |
//! | `traffic/` | what a slice of connections has sent, and is to be sent |
//! | `ready.rs` | wakes, from any thread |
//! | `wheel.rs` | deadlines |
//! | `stream.rs` | the socket, in place or in a task |
//! | `accept.rs` | the listening socket |
//! | `reactor.rs` | tokio's watch over a descriptor |

mod accept;
mod common;
mod engine;
mod entries;
mod events;
mod graduate;
mod held;
mod reactor;
mod ready;
mod seat;
mod seated;
mod serve;
mod stream;
mod traffic;
mod vacant;
mod wheel;
mod worker;

pub(super) use worker::serve;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;

use super::reply::Reply;
use super::service::{Guarded, Served};
use crate::BoxError;
use crate::server::conn::dormant;
use entries::Peer;
use stream::Stream;

/// A service that an acceptor serves, with all that it needs of one.
pub(super) trait App:
    Service<Request<Incoming>, Response = Response<<Self as App>::Body>, Error: Into<BoxError>> + 'static
{
    type Body: Body<Error: Into<BoxError>> + 'static;
}

impl<S, B> App for S
where
    S: Service<Request<Incoming>, Response = Response<B>> + 'static,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    type Body = B;
}

/// The future of a request.
type Answer<S> = Guarded<<S as Service<Request<Incoming>>>::Future>;
/// A connection that waits, with all that hyper is rebuilt from.
type Waiting<S> = dormant::Dormant<Stream, Served<S, Peer>>;
/// What makes it active.
type Wake<S> = dormant::Wake<Reply<<S as App>::Body>>;

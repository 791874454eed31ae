//! One connection, from its first byte to its last, also through a shutdown.

use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::super::service::{Client, Served, own};
use super::super::share::Share;
use super::super::stats::Counters;
use super::counted::{Counted, Counts};
use super::drain::Stop;
use crate::BoxError;
use crate::draining::while_draining;
use crate::server::conn::http1::Builder;

impl Client for Option<SocketAddr> {
    fn addr(&self) -> Option<SocketAddr> {
        *self
    }
}

/// What a connection is counted as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Active,
    Parked,
    Idle,
}

/// One connection among those that are counted, for as long as it is there.
struct Gauge<'a> {
    counters: &'a Counters,
    state: Option<State>,
}

impl Gauge<'_> {
    fn set(&mut self, state: Option<State>) {
        if state == self.state {
            return;
        }
        let counter = |state| match state {
            State::Active => &self.counters.active,
            State::Parked => &self.counters.parked,
            State::Idle => &self.counters.idle,
        };
        if let Some(old) = self.state {
            counter(old).decrement();
        }
        if let Some(new) = state {
            counter(new).increment();
        }
        self.state = state;
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.set(None);
    }
}

/// Serves a connection until it ends by itself or is told to [`Stop`].
pub(super) async fn serve<S, B>(stream: TcpStream, peer: SocketAddr, service: Rc<S>, share: Rc<Share>, mut stop: Stop)
where
    S: Service<Request<Incoming>, Response = Response<B>> + 'static,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    let builder = Builder::from_shared(share.config.settings.clone());
    let counts = Counts { share: share.clone(), waiting: Rc::default() };
    let mut gauge = Gauge { counters: &share.counters, state: None };
    let waiting = counts.waiting.clone();
    let named = share.config.peer_addr.then_some(peer);
    let service = Counted { service: Served { service, peer: named }, counts };
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = connection.with_upgrades();
    let mut stop_at_last = stop.clone();
    let mut draining = pin!(stop.draining());
    let mut closing = pin!(stop_at_last.closing());
    let mut drained = false;
    let served = poll_fn(|cx| {
        loop {
            // The connection goes first: a request that is there already is not idle.
            if let Poll::Ready(served) = while_draining(drained, || pin!(&mut connection).poll(cx)) {
                return Poll::Ready(Some(served));
            }
            gauge.set(Some(match (connection.is_dormant(), waiting.get()) {
                (false, _) => State::Active,
                (true, true) => State::Parked,
                (true, false) => State::Idle,
            }));
            drained = drained || draining.as_mut().poll(cx).is_ready();
            let answer = || {
                share.counters.shut_down.increment();
                own((share.config.shutdown_response)())
            };
            if !drained || !connection.drain(answer) {
                return closing.as_mut().poll(cx).map(|()| None);
            }
        }
    })
    .await;
    match served {
        None => tracing::debug!(%peer, "closed a connection that the shutdown's deadline found active"),
        Some(Err(error)) => {
            if error.is_timeout() {
                share.counters.timed_out.increment();
            }
            tracing::debug!(%peer, %error, "a connection ended with an error");
        }
        Some(Ok(())) => {}
    }
}

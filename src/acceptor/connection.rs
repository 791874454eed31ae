//! One connection, from its first byte to its last, also through a shutdown.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::park::ParkService;
use super::progress::{Progress, Watched};
use super::shutdown::Stop;
use super::{PeerAddr, ShutdownResponse};
use crate::BoxError;

/// Serves a connection until it ends by itself or is told to [`Stop`].
pub(super) async fn serve<S, B>(
    stream: TcpStream,
    peer: SocketAddr,
    service: Rc<S>,
    shutdown_response: ShutdownResponse,
    mut stop: Stop,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + 'static,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    let progress = Arc::new(Progress::default());
    let io = TokioIo::new(Watched::new(stream, progress.clone()));
    let service = ParkService { service, peer: PeerAddr(peer), progress: progress.clone(), shutdown_response };
    let http = http1::Builder::new().timer(TokioTimer::new()).serve_connection(io, service).with_upgrades();
    let mut http = pin!(http);

    // The connection goes first: a request that is there already is not idle.
    let served = tokio::select! {
        biased;
        served = http.as_mut() => Some(served),
        () = stop.draining() => None,
    };
    let served = match served {
        Some(served) => served,
        None => {
            progress.stop();
            let mut told = false;
            let drained = poll_fn(|cx| {
                loop {
                    if let Poll::Ready(served) = http.as_mut().poll(cx) {
                        return Poll::Ready(served);
                    }
                    // That poll has answered what was parked. If there is still something to answer, it is a head that
                    // is half read, and hyper would close a kept-alive connection there; so the request is awaited, and
                    // its response announces the close.
                    if told || progress.is_unanswered() {
                        return Poll::Pending;
                    }
                    told = true;
                    http.as_mut().graceful_shutdown();
                }
            });
            tokio::select! {
                biased;
                served = drained => served,
                () = stop.closing() => {
                    tracing::debug!(%peer, "closed a connection that the shutdown's deadline found active");
                    return;
                }
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "a connection ended with an error");
    }
}

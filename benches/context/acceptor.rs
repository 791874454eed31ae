//! Requests of one client to an acceptor, all on one thread, so that the same happens each time.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_deferred::Acceptor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

type Reply = Result<Response<Full<Bytes>>, Infallible>;

const REQUEST: &[u8] = b"GET /poll?channel=news HTTP/1.1\r\nhost: bench\r\n\r\n";

pub(super) fn requests(count: usize) {
    serve(count, |acceptor| acceptor, service_fn(park));
}

#[cfg(feature = "context")]
pub(super) fn requests_with_context(count: usize) {
    serve(count, |acceptor| acceptor, hyper_deferred::context::WithContext::new(service_fn(park)));
}

#[cfg(feature = "context")]
pub(super) fn watched_requests(count: usize) {
    let watchdog = hyper_deferred::watchdog::Watchdog::start().unwrap();
    let service = hyper_deferred::context::WithContext::new(service_fn(park));
    serve(count, |acceptor| acceptor.watchdog(watchdog), service);
}

/// Waits for a turn, as a request does that is parked.
async fn park(_request: Request<Incoming>) -> Reply {
    tokio::task::yield_now().await;
    Ok(Response::new(Bytes::from_static(b"hello").into()))
}

fn serve<S>(count: usize, set: impl FnOnce(Acceptor) -> Acceptor, service: S)
where
    S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible> + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let acceptor = set(Acceptor::bind("127.0.0.1:0").unwrap());
        let (address, shutdown) = (acceptor.local_addr().unwrap(), acceptor.shutdown_handle());
        let server = tokio::task::spawn_local(acceptor.serve(service));
        ask(address, count).await;
        shutdown.shutdown();
        server.await.unwrap().unwrap();
    });
}

async fn ask(address: SocketAddr, count: usize) {
    let mut client = TcpStream::connect(address).await.unwrap();
    let mut answer = [0; 1024];
    for _ in 0..count {
        client.write_all(REQUEST).await.unwrap();
        let mut length = 0;
        while !answer[..length].ends_with(b"hello") {
            length += client.read(&mut answer[length..]).await.unwrap();
        }
    }
}

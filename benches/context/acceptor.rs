//! Requests of one client to an acceptor, all on one thread, so that the same happens each time.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_deferred::Acceptor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

type Reply = Result<Response<Full<Bytes>>, Infallible>;

const REQUEST: &[u8] = b"GET /poll?channel=news HTTP/1.1\r\nhost: bench\r\n\r\n";

/// Waits for a turn, as a request does that is parked.
pub(super) async fn park(_request: Request<Incoming>) -> Reply {
    tokio::task::yield_now().await;
    Ok(Response::new(Bytes::from_static(b"hello").into()))
}

pub(super) fn serve<S>(count: usize, set: impl FnOnce(Acceptor) -> Acceptor, service: S)
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

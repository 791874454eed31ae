//! hyper's own multi-threaded server, one `use` line changed: `cargo run --example drop_in`.
//!
//! `/wait` answers a second later, from another task, and meanwhile its connection is dormant.
#![allow(clippy::print_stdout, reason = "an example tells where to find it")]

use std::{convert::Infallible, error::Error, pin::pin, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_deferred::deferred;
// Was: use hyper::server::conn::http1;
use hyper_deferred::server::conn::http1;
use hyper_deferred::server::graceful::GracefulShutdown;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

async fn hello(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() != "/wait" {
        return Ok(Response::new("Hello, world!\n".into()));
    }
    let (responder, deferred) = deferred();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let _client_has_gone = responder.send(Response::new("Hello, and thank you for waiting!\n".into()));
    });
    deferred.await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::args().skip_while(|arg| arg != "--port").nth(1).map_or(Ok(3000), |port| port.parse())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}/", listener.local_addr()?);
    let graceful = GracefulShutdown::new();
    let mut ctrl_c = pin!(tokio::signal::ctrl_c());
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ctrl_c = &mut ctrl_c => break,
        };
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(hello));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                println!("a connection failed: {error}");
            }
        });
    }
    // What waits has its answer in a second.
    graceful.shutdown().await;
    Ok(())
}

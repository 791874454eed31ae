//! Parks each request and answers it a second later from another thread: `cargo run --example hello`.
#![allow(clippy::print_stdout, reason = "an example tells where to find it")]

use std::{error::Error, thread, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_deferred::{Acceptor, deferred};

fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::args().skip_while(|arg| arg != "--port").nth(1).map_or(Ok(3000), |port| port.parse())?;
    let acceptor = Acceptor::bind(("127.0.0.1", port))?;
    println!("listening on http://{}/", acceptor.local_addr()?);

    let shutdown = acceptor.shutdown_handle();
    acceptor.run(|| {
        tokio::task::spawn_local(async move {
            let _ctrl_c = tokio::signal::ctrl_c().await;
            shutdown.shutdown();
        });
        service_fn(|_request: Request<Incoming>| {
            let (responder, deferred) = deferred::<Full<Bytes>>();
            thread::spawn(move || {
                thread::sleep(Duration::from_secs(1));
                let _client_has_gone = responder.send(Response::new("Hello from another thread!\n".into()));
            });
            deferred
        })
    })?;
    Ok(())
}

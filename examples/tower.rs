//! A tower service with a tower layer, served through hyper-util's adapter: `cargo run --example tower`.
//!
//! Every request is parked for a second; the layer lets at most two through at once, so that of five clients at the
//! same time the last waits for three seconds: `seq 5 | xargs -P5 -I% curl -s http://127.0.0.1:3000/`.
#![allow(clippy::print_stdout, reason = "an example tells where to find it")]

use std::error::Error;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_deferred::{Acceptor, Deferred, deferred};
use hyper_util::service::TowerToHyperService;
use tower::ServiceBuilder;

/// How many requests the service sees at once.
const CONCURRENT_MAX: usize = 2;

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
        TowerToHyperService::new(ServiceBuilder::new().concurrency_limit(CONCURRENT_MAX).service_fn(park))
    })?;
    Ok(())
}

fn park(request: Request<Incoming>) -> Deferred<Full<Bytes>> {
    let (responder, deferred) = deferred();
    thread::spawn(move || {
        thread::sleep(Duration::from_secs(1));
        let answer = format!("{} was parked for a second\n", request.uri().path());
        let _client_has_gone = responder.send(Response::new(answer.into()));
    });
    deferred
}

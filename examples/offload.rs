//! Work that would hold up everybody else, done by other threads: `cargo run --features full --example offload`.
//!
//! `curl http://127.0.0.1:3000/primes/10000000` takes a while, and `/stall/10000000` takes as long in the loop's own
//! thread: the watchdog logs it. Whatever else is asked meanwhile is answered at once in the one case and late in the
//! other.
#![allow(clippy::print_stdout, reason = "an example tells where to find it")]

use std::error::Error;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_deferred::offload::{Pool, offload};
use hyper_deferred::{Acceptor, context::Context, context::WithContext, watchdog::Watchdog};

type Reply = Result<Response<Full<Bytes>>, std::convert::Infallible>;

fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::args().skip_while(|arg| arg != "--port").nth(1).map_or(Ok(3000), |port| port.parse())?;
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();

    let acceptor = Acceptor::bind(("127.0.0.1", port))?.watchdog(Watchdog::start()?);
    println!("listening on http://{}/", acceptor.local_addr()?);
    let (stats, shutdown) = (acceptor.stats(), acceptor.shutdown_handle());
    acceptor.run(|| {
        tokio::task::spawn_local(async move {
            let _ctrl_c = tokio::signal::ctrl_c().await;
            shutdown.shutdown();
        });
        // Few wait: who comes when so many are in line is better told to come again.
        let pool = Pool::new(2, 16);
        WithContext::new(service_fn(move |request: Request<Incoming>| answer(pool.clone(), request)))
    })?;
    println!("{:?}", stats.loops());
    Ok(())
}

async fn answer(pool: Pool, request: Request<Incoming>) -> Reply {
    let path = request.uri().path().trim_start_matches('/');
    match path.split_once('/').and_then(|(how, below)| Some((how, below.parse().ok()?))) {
        Some(("primes", below)) => match pool.offload(move || count(below)).await {
            Ok(found) => Ok(Response::new(found.into())),
            Err(error) => Ok(error.to_response()),
        },
        Some(("stall", below)) => Ok(Response::new(count(below).into())),
        // The default pool has as many threads as there are cores.
        _ => match offload(|| count(1000)).await {
            Ok(found) => Ok(Response::new(found.into())),
            Err(error) => Ok(error.to_response()),
        },
    }
}

/// Primes below `below`, by a sieve. The request is in hand here as well.
fn count(below: usize) -> String {
    let below = below.min(100_000_000);
    let mut composite = vec![false; below];
    let mut primes = 0;
    for n in 2..below {
        if !composite[n] {
            primes += 1;
            (n.saturating_mul(n)..below).step_by(n).for_each(|multiple| composite[multiple] = true);
        }
    }
    let id = Context::current().map_or(0, |context| context.id());
    format!("request {id}: {primes} primes below {below}\n")
}

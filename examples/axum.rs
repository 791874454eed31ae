//! An axum `Router` on the acceptor, with a handler that awaits a `Deferred`: `cargo run --example axum`.
//!
//! `curl http://127.0.0.1:3000/wait` is parked until `curl -d hello http://127.0.0.1:3000/wake` says what to answer.
#![allow(clippy::print_stdout, reason = "an example tells where to find it")]

use std::error::Error;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper_deferred::{Acceptor, Responder, deferred};
use hyper_util::service::TowerToHyperService;

type Waiting = Arc<Mutex<Vec<Responder<Body>>>>;

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
        let routes = Router::new()
            .route("/", get("Wait at /wait, be woken by a POST to /wake\n"))
            .route("/wait", get(wait))
            .route("/wake", post(wake))
            .with_state(Waiting::default());
        TowerToHyperService::new(routes)
    })?;
    Ok(())
}

async fn wait(State(waiting): State<Waiting>) -> Response {
    let (responder, deferred) = deferred();
    {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Who has left meanwhile makes room, so that the list never holds more than the clients there are.
        waiting.retain(|responder| !responder.is_closed());
        waiting.push(responder);
    }
    let Ok(response) = deferred.timeout(Duration::from_secs(25), || StatusCode::NO_CONTENT.into_response()).await;
    response
}

async fn wake(State(waiting): State<Waiting>, message: String) -> String {
    let waiting = mem::take(&mut *waiting.lock().unwrap_or_else(PoisonError::into_inner));
    let woken =
        waiting.into_iter().filter_map(|responder| responder.send(message.clone().into_response()).ok()).count();
    format!("woke {woken}\n")
}

//! The tracing span comes along with the context.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::service::{Service as _, service_fn};
use hyper_deferred::context::{Context, WithContext};
use hyper_deferred::offload;

#[path = "support/log_lines.rs"]
mod logs;

type Body = Empty<Bytes>;

/// Another thread has the subscriber only when it is the process's: the tests of this file take turns with it.
fn logged_by<F: Future<Output = ()>>(work: impl FnOnce() -> F) -> Vec<String> {
    use std::sync::{Mutex, OnceLock, mpsc::Receiver};
    static LOGGED: OnceLock<Mutex<Receiver<String>>> = OnceLock::new();
    let logged = LOGGED.get_or_init(|| {
        let (subscriber, logged) = logs::channel();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        Mutex::new(logged)
    });
    let logged = logged.lock().unwrap();
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work());
    logged.try_iter().collect()
}

#[test]
fn what_a_service_logs_is_in_the_requests_span_and_what_others_log_is_not() {
    let logged = logged_by(|| async {
        let service = WithContext::new(service_fn(|_request: Request<Body>| {
            tracing::info!("called");
            async {
                tracing::info!("polled");
                tokio::task::yield_now().await;
                offload(|| tracing::info!("offloaded")).await.unwrap();
                tokio::spawn(async { tracing::info!("spawned") }).await.unwrap();
                Ok::<_, Infallible>(Response::new(Body::new()))
            }
        }))
        .span(|context| tracing::info_span!("asked", path = context.uri().path()));
        service.call(Request::builder().uri("/x").body(Body::new()).unwrap()).await.unwrap();
        tracing::info!("outside");
    });
    let in_span = |message| format!("[asked path=\"/x\"] {message}");
    assert_eq!(
        logged,
        [in_span("called"), in_span("polled"), in_span("offloaded"), " spawned".into(), " outside".into()]
    );
}

#[test]
fn the_default_span_names_method_path_and_id() {
    let logged = logged_by(|| async {
        let service = WithContext::new(service_fn(|_request: Request<Body>| {
            tracing::info!(expected = Context::current().unwrap().id());
            async { Ok::<_, Infallible>(Response::new(Body::new())) }
        }));
        service.call(Request::builder().uri("/x?secret").body(Body::new()).unwrap()).await.unwrap();
    });
    let id = logged[0].split_once("expected=").unwrap().1;
    assert_eq!(logged, [format!("[request method=GET path=\"/x\" id={id}] expected={id}")]);
}

#[test]
fn a_span_entered_within_the_request_is_the_one_that_is_saved() {
    let logged = logged_by(|| async {
        let service = WithContext::new(service_fn(|_request: Request<Body>| {
            let inner = tracing::info_span!("inner");
            let later = inner.in_scope(|| Context::save().bind(|| tracing::info!("later")));
            tracing::info_span!("callers").in_scope(|| {
                later();
                tracing::info!("back");
            });
            async { Ok::<_, Infallible>(Response::new(Body::new())) }
        }));
        service.call(Request::new(Body::new())).await.unwrap();
    });
    assert_eq!(logged, ["[inner] later", "[callers] back"]);
}

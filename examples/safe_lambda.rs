//! A continuation that runs later, on another thread, as if its request were still in hand: `cargo run --features full
//! --example safe_lambda`, then `curl -H 'x-tenant: acme' http://127.0.0.1:3000/hello`.
//!
//! OpenTelemetry comes along with the tracing span: the answer has the trace's id, asked for by the continuation.
#![allow(clippy::print_stdout, reason = "an example tells where to find it")]

use std::{error::Error, sync::mpsc, thread};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_deferred::{Acceptor, context::Context, context::WithContext, deferred};
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::layer::SubscriberExt as _;

/// What the application knows of a request.
#[derive(Clone)]
struct Tenant(String);

type Continuation = Box<dyn FnOnce() + Send>;

fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::args().skip_while(|arg| arg != "--port").nth(1).map_or(Ok(3000), |port| port.parse())?;
    let tracer = SdkTracerProvider::builder().build().tracer("safe_lambda");
    let subscriber = tracing_subscriber::registry().with(tracing_opentelemetry::layer().with_tracer(tracer));
    tracing::subscriber::set_global_default(subscriber)?;

    let (later, continuations) = mpsc::channel::<Continuation>();
    thread::spawn(move || continuations.into_iter().for_each(|continuation| continuation()));

    let acceptor = Acceptor::bind(("127.0.0.1", port))?;
    println!("listening on http://{}/", acceptor.local_addr()?);
    let shutdown = acceptor.shutdown_handle();
    acceptor.run(|| {
        tokio::task::spawn_local(async move {
            let _ctrl_c = tokio::signal::ctrl_c().await;
            shutdown.shutdown();
        });
        WithContext::new(service_fn(move |request: Request<Incoming>| {
            let context = Context::current().expect("a request is in hand");
            let tenant = request.headers().get("x-tenant").and_then(|tenant| tenant.to_str().ok());
            context.insert(Tenant(tenant.unwrap_or("nobody").to_owned()));

            let (responder, deferred) = deferred::<Full<Bytes>>();
            let continuation = context.bind(move || {
                let _client_has_gone = responder.send(Response::new(greeting().into()));
            });
            let _runs_later = later.send(Box::new(continuation));
            deferred
        }))
    })?;
    Ok(())
}

/// Knows nothing of threads, nor of who called it: it asks for the request in hand.
fn greeting() -> String {
    let Some(context) = Context::current() else { return "no request is in hand\n".to_owned() };
    let Tenant(tenant) = context.get().unwrap_or(Tenant("nobody".to_owned()));
    let trace = tracing::Span::current().context().span().span_context().trace_id();
    format!("{tenant} asked for {} in request {}, trace {trace}\n", context.uri(), context.id())
}

//! What a request's context costs: time for a call and its polls, and memory while the request is parked.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::task::{Context as TaskContext, Waker};
use std::time::Instant;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::service::{Service, service_fn};
use hyper_deferred::context::{Context, Saved, WithContext};

use super::{Measured, summarize};

type Body = Empty<Bytes>;

const CALLS: usize = 200_000;
const PARKED: usize = 100_000;

pub(super) fn measure_time(rounds: usize) -> Vec<Measured> {
    let plain = service_fn(two_polls);
    let with_context = WithContext::new(service_fn(two_polls));
    let mut results: Vec<(&str, Vec<f64>)> =
        ["without a context", "with a context, nobody asks for it"].map(|name| (name, Vec::new())).into();
    for _ in 0..rounds {
        results[0].1.push(nanos_per_call(&plain));
        results[1].1.push(nanos_per_call(&with_context));
    }
    summarize("ns", results)
}

pub(super) fn measure_memory() -> Vec<Measured> {
    // What an application's record of a parked request holds, without and with what was saved. The context itself is
    // there while its request is, in either case.
    let context = Context::new(http::Method::GET, "/".parse().unwrap(), http::Version::HTTP_11);
    // The first takes what earlier measurements gave back.
    bytes_each(|| [0_u8; 48]);
    let plain = bytes_each(|| [0_u8; 48]);
    let saved = bytes_each(|| ([0_u8; 48], context.saved()));
    let contexts =
        bytes_each(|| Context::new(http::Method::GET, "/poll?channel=news".parse().unwrap(), http::Version::HTTP_11));
    vec![
        Measured { name: "size of what is saved", unit: "bytes", value: size_of::<Saved>() as f64, ratio: 1.0 },
        Measured { name: "measured for it", unit: "bytes", value: saved - plain, ratio: (saved - plain) / 16.0 },
        Measured { name: "the context of a request", unit: "bytes", value: contexts, ratio: contexts / 16.0 },
    ]
}

async fn two_polls(_request: Request<Body>) -> Result<Response<Body>, Infallible> {
    tokio::task::yield_now().await;
    Ok(Response::new(Body::new()))
}

fn nanos_per_call<S: Service<Request<Body>>>(service: &S) -> f64 {
    let mut cx = TaskContext::from_waker(Waker::noop());
    let began = Instant::now();
    for _ in 0..CALLS {
        let mut response = pin!(service.call(Request::new(Body::new())));
        while response.as_mut().poll(&mut cx).is_pending() {}
    }
    began.elapsed().as_secs_f64() * 1e9 / CALLS as f64
}

fn bytes_each<T>(make: impl Fn() -> T) -> f64 {
    let before = anonymous_kb();
    let parked: Vec<_> = (0..PARKED).map(|_| Box::new(make())).collect();
    let bytes = (anonymous_kb() - before) * 1024.0 / PARKED as f64;
    // Not given back: what the next one takes is to be new.
    std::hint::black_box(Box::leak(parked.into_boxed_slice()));
    bytes
}

fn anonymous_kb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

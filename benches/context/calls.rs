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

type Body = Empty<Bytes>;

const CALLS: usize = 200_000;
const ROUNDS: usize = 5;
const PARKED: usize = 100_000;

pub(super) fn plain(count: usize) {
    call(&service_fn(two_polls), count);
}

pub(super) fn with_context(count: usize) {
    call(&WithContext::new(service_fn(two_polls)), count);
}

pub(super) fn measure() {
    let (plain, with) = measure_time();
    println!("\nnanoseconds");
    println!("  {:<50} {plain:>10.1}", "a service's call and its polls, without a context");
    println!("  {:<50} {with:>10.1}", "the same, with one");

    // What an application's record of a parked request holds, without and with what was saved. The context itself is
    // there while its request is, in either case.
    let context = context();
    // The first takes what earlier measurements gave back.
    bytes_each(|| [0_u8; 48]);
    let plain = bytes_each(|| [0_u8; 48]);
    let saved = bytes_each(|| ([0_u8; 48], context.saved()));
    println!("\nbytes");
    println!("  {:<50} {:>10}", "size of what is saved with a parked request", size_of::<Saved>());
    println!("  {:<50} {:>10.1}", "measured for it", saved - plain);
    println!("  {:<50} {:>10.1}", "the context of a request", bytes_each(self::context));
}

fn context() -> Context {
    Context::new(http::Method::GET, "/poll?channel=news".parse().unwrap(), http::Version::HTTP_11)
}

/// The medians of both, measured in turns.
fn measure_time() -> (f64, f64) {
    let time = |run: fn(usize)| {
        let began = Instant::now();
        run(CALLS);
        began.elapsed().as_secs_f64() * 1e9 / CALLS as f64
    };
    let mut rounds: [Vec<f64>; 2] = Default::default();
    for _ in 0..ROUNDS {
        rounds[0].push(time(plain));
        rounds[1].push(time(with_context));
    }
    let [plain, with] = rounds.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    (plain, with)
}

async fn two_polls(_request: Request<Body>) -> Result<Response<Body>, Infallible> {
    tokio::task::yield_now().await;
    Ok(Response::new(Body::new()))
}

fn call<S: Service<Request<Body>>>(service: &S, count: usize) {
    let mut cx = TaskContext::from_waker(Waker::noop());
    for _ in 0..count {
        let mut request = Request::new(Body::new());
        *request.uri_mut() = http::Uri::from_static("/poll?channel=news");
        let mut response = pin!(service.call(request));
        while response.as_mut().poll(&mut cx).is_pending() {}
    }
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

//! What a request's context costs where there is one.
//!
//! `cargo bench --bench context --features context` prints instructions, which need valgrind and no quiet machine, and
//! times and memory, which need one. What it costs where there is none is in `unused.rs`.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints, and has nobody to report to")]

mod acceptor;
mod calls;
mod counted;

use hyper::service::service_fn;
use hyper_deferred::context::WithContext;
use hyper_deferred::watchdog::Watchdog;

fn main() {
    let counted = counted::count(&[
        ("acceptor", "a request to an acceptor, without a context", |count| {
            acceptor::serve(count, |acceptor| acceptor, service_fn(acceptor::park));
        }),
        ("acceptor-context", "the same, with one", |count| {
            acceptor::serve(count, |acceptor| acceptor, WithContext::new(service_fn(acceptor::park)));
        }),
        ("acceptor-watched", "the same, with a watchdog as well", |count| {
            let watchdog = Watchdog::start().unwrap();
            acceptor::serve(
                count,
                |acceptor| acceptor.watchdog(watchdog),
                WithContext::new(service_fn(acceptor::park)),
            );
        }),
        ("plain", "a service's call and its polls, without a context", calls::plain),
        ("context", "the same, with one", calls::with_context),
    ]);
    if !counted {
        calls::measure();
    }
}

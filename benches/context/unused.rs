//! What the feature `context` costs where nobody uses it.
//!
//! `cargo bench --bench context_unused` and the same with `--features context` print the instructions of a request to an
//! acceptor, without the feature and with it. They need valgrind and no quiet machine.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints, and has nobody to report to")]

mod acceptor;
mod counted;

fn main() {
    counted::count(&[("acceptor", "a request to an acceptor, without a context", |count| {
        acceptor::serve(count, |acceptor| acceptor, hyper::service::service_fn(acceptor::park));
    })]);
}

//! An application that keeps a list of who waits.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_deferred::{Deferred, Outcome, Responder, deferred};

use super::Client;

type Body = Full<Bytes>;

/// Parks `GET /`; `/waiting` tells how many requests wait and how many of their futures live, `/wake` answers them.
#[derive(Clone, Default)]
pub struct Waiters(Arc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: Mutex<HashMap<usize, Responder<Body>>>,
    next: AtomicUsize,
    live: AtomicUsize,
    shut_down: AtomicUsize,
}

/// A future that is counted while it lives.
pub struct Counted {
    deferred: Deferred<Body>,
    inner: Arc<Inner>,
}

// ===== impl Waiters =====

impl Waiters {
    /// How many requests were told that the server shuts down.
    pub fn shut_down(&self) -> usize {
        self.0.shut_down.load(SeqCst)
    }

    /// How many requests are in the list.
    pub fn waiting(&self) -> usize {
        self.0.waiting.lock().unwrap().len()
    }

    /// Answers at once.
    pub fn answer(&self, text: String) -> Counted {
        let (responder, deferred) = deferred();
        responder.send(Response::new(text.into())).unwrap();
        self.counted(deferred)
    }

    fn park(&self) -> Counted {
        let (responder, deferred) = deferred();
        let inner = self.0.clone();
        let id = inner.next.fetch_add(1, SeqCst);
        inner.waiting.lock().unwrap().insert(id, responder);
        self.counted(deferred.on_complete(move |outcome| {
            inner.waiting.lock().unwrap().remove(&id);
            inner.shut_down.fetch_add(usize::from(outcome == Outcome::ShutDown), SeqCst);
        }))
    }

    fn counted(&self, deferred: Deferred<Body>) -> Counted {
        self.0.live.fetch_add(1, SeqCst);
        Counted { deferred, inner: self.0.clone() }
    }
}

impl Service<Request<Incoming>> for Waiters {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Counted;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        match request.uri().path() {
            "/waiting" => self.answer(format!("{} {}", self.waiting(), self.0.live.load(SeqCst))),
            "/wake" => {
                let waiting = std::mem::take(&mut *self.0.waiting.lock().unwrap());
                let woken = waiting.into_values().filter_map(|r| r.send(Response::new("woken".into())).ok()).count();
                self.answer(woken.to_string())
            }
            _ => self.park(),
        }
    }
}

// ===== impl Counted =====

impl Future for Counted {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.deferred).poll(cx)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.inner.live.fetch_sub(1, SeqCst);
    }
}

// ===== helpers =====

/// Asks until so many requests wait, and as many futures live.
pub fn await_waiting(control: &mut Client, count: usize) {
    // The future that answers the question is not there yet when it is asked.
    await_text(control, "/waiting", |text| text == format!("{count} {count}"));
}

/// Asks until the answer is as it should be.
pub fn await_text(control: &mut Client, path: &str, expected: impl Fn(&str) -> bool) {
    let deadline = std::time::Instant::now() + super::PATIENCE;
    loop {
        let text = control.text(path);
        if expected(&text) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{path} is still answered {text}");
    }
}

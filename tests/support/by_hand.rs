//! A connection that is polled by hand, and the client at its other end.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use futures_channel::oneshot;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};

/// More than any test sends before it reads.
const DUPLEX_BYTES_MAX: usize = 64 * 1024;

/// The most polls in a row of a task that wakes itself.
const POLLS_MAX: usize = 1_000;

/// What is polled when a test says so.
pub struct Task<F> {
    pub future: F,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken(AtomicBool);

/// The client of a connection. Nothing that it does waits.
pub struct Peer(DuplexStream);

/// Keeps each request, in the order in which they come, until the test answers it or its future is dropped.
#[derive(Clone, Default)]
pub struct Desk(Rc<RefCell<Vec<Kept>>>);

struct Kept {
    request: Option<Request<Incoming>>,
    answer: oneshot::Sender<Response<Full<Bytes>>>,
}

// ===== impl Task =====

impl<F: Future + Unpin> Task<F> {
    pub fn new(future: F) -> Self {
        Self { future, woken: Arc::default() }
    }

    /// Polls once.
    pub fn poll(&mut self) -> Poll<F::Output> {
        self.poll_with(|future, cx| Pin::new(future).poll(cx))
    }

    /// Polls once, in another way than as a future.
    pub fn poll_with<T>(&mut self, poll: impl FnOnce(&mut F, &mut Context<'_>) -> T) -> T {
        self.woken.0.store(false, SeqCst);
        let waker = Waker::from(self.woken.clone());
        poll(&mut self.future, &mut Context::from_waker(&waker))
    }

    /// Polls once, if anything has asked for it since the last poll: an executor would not do it otherwise.
    pub fn poll_woken(&mut self) -> Poll<F::Output> {
        assert!(self.woken.0.load(SeqCst), "the task is not woken");
        self.poll()
    }

    pub fn is_woken(&self) -> bool {
        self.woken.0.load(SeqCst)
    }

    /// Polls for as long as something has asked for it.
    pub fn run(&mut self) -> Poll<F::Output> {
        for _ in 0..POLLS_MAX {
            let poll = self.poll();
            if poll.is_ready() || !self.is_woken() {
                return poll;
            }
        }
        panic!("the task wakes itself without end");
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

// ===== impl Peer =====

impl Peer {
    /// A client, and the IO of its connection.
    pub fn new() -> (Self, TokioIo<DuplexStream>) {
        let (client, server) = duplex(DUPLEX_BYTES_MAX);
        (Self(client), TokioIo::new(server))
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let sent = Pin::new(&mut self.0).poll_write(&mut Context::from_waker(Waker::noop()), bytes);
        assert!(matches!(sent, Poll::Ready(Ok(len)) if len == bytes.len()), "{sent:?}");
    }

    /// What has come and was not looked at yet.
    pub fn received(&mut self) -> String {
        self.receive().0
    }

    /// Whether the server has closed, with nothing written before it that was not looked at.
    pub fn is_closed(&mut self) -> bool {
        self.receive() == (String::new(), true)
    }

    fn receive(&mut self) -> (String, bool) {
        let mut received = Vec::new();
        loop {
            let mut room = [0; 1024];
            let mut buf = ReadBuf::new(&mut room);
            let read = Pin::new(&mut self.0).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf);
            let ended = match read {
                Poll::Ready(read) => read.is_err() || buf.filled().is_empty(),
                Poll::Pending => false,
            };
            if buf.filled().is_empty() {
                return (String::from_utf8(received).unwrap(), ended);
            }
            received.extend_from_slice(buf.filled());
        }
    }

    /// Sends no more, and reads on.
    pub fn close_sending_half(&mut self) {
        let shut = Pin::new(&mut self.0).poll_shutdown(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(shut, Poll::Ready(Ok(()))), "{shut:?}");
    }
}

// ===== impl Desk =====

impl Desk {
    /// Waits until a request is waited for.
    pub async fn called(&self) {
        while self.waiting() == 0 {
            tokio::task::yield_now().await;
        }
    }

    /// How many requests are waited for.
    pub fn waiting(&self) -> usize {
        self.0.borrow().iter().filter(|kept| !kept.answer.is_canceled()).count()
    }

    /// Takes the last request, for whatever has to be done with its body.
    pub fn take_request(&self) -> Request<Incoming> {
        self.0.borrow_mut().last_mut().and_then(|kept| kept.request.take()).expect("a request has come")
    }

    /// Answers the last request.
    pub fn answer(&self, body: &'static str) {
        self.respond(Response::new(Full::from(body)));
    }

    /// The same with more than a body.
    pub fn respond(&self, response: Response<Full<Bytes>>) {
        let kept = self.0.borrow_mut().pop().expect("a request has come");
        kept.answer.send(response).expect("it is waited for");
    }
}

impl Service<Request<Incoming>> for Desk {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (answer, answered) = oneshot::channel();
        self.0.borrow_mut().push(Kept { request: Some(request), answer });
        Box::pin(async { Ok(answered.await.expect("the desk answers before it is dropped")) })
    }
}

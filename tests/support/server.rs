//! An acceptor in a thread of its own, and a service that parks.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_deferred::{Acceptor, BoxError, Deferred, Outcome, Responder, ShutdownHandle, deferred};

use super::PATIENCE;

pub type TestBody = BoxBody<Bytes, BoxError>;

/// A server that runs until it is shut down.
pub struct Server {
    pub addr: SocketAddr,
    pub handle: ShutdownHandle,
    returned: mpsc::Receiver<io::Result<()>>,
}

/// Parks each request and gives its other half to the test; what the test learns last is how the request ended.
#[derive(Clone)]
pub struct Park {
    parked: mpsc::Sender<Responder<TestBody>>,
    ended: mpsc::Sender<Outcome>,
}

// ===== impl Server =====

impl Server {
    /// Runs `acceptor` in a thread. `make_service` is called there, so that the service need not be `Send`.
    pub fn run<S, B>(acceptor: Acceptor, make_service: impl FnOnce() -> S + Send + 'static) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body + 'static,
        B::Error: Into<BoxError>,
    {
        let (addr, handle) = (acceptor.local_addr().unwrap(), acceptor.shutdown_handle());
        let (done, returned) = mpsc::channel();
        thread::spawn(move || done.send(acceptor.run(make_service)));
        Self { addr, handle, returned }
    }

    /// Waits until `run` has returned.
    pub fn join(self) {
        self.returned.recv_timeout(PATIENCE).expect("the server has ended").unwrap();
    }

    pub fn is_running(&self) -> bool {
        matches!(self.returned.try_recv(), Err(mpsc::TryRecvError::Empty))
    }
}

// ===== impl Park =====

impl Park {
    pub fn new() -> (Self, mpsc::Receiver<Responder<TestBody>>, mpsc::Receiver<Outcome>) {
        let (parked, responders) = mpsc::channel();
        let (ended, outcomes) = mpsc::channel();
        (Self { parked, ended }, responders, outcomes)
    }
}

impl Service<Request<Incoming>> for Park {
    type Response = Response<TestBody>;
    type Error = Infallible;
    type Future = Deferred<TestBody>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (responder, deferred) = deferred();
        if request.uri().path() == "/now" {
            responder.send(Response::new(text("now"))).unwrap();
            return deferred;
        }
        self.parked.send(responder).unwrap();
        let ended = self.ended.clone();
        deferred.on_complete(move |outcome| {
            let _ = ended.send(outcome);
        })
    }
}

// ===== helpers =====

fn text(text: &'static str) -> TestBody {
    http_body_util::Full::new(Bytes::from_static(text.as_bytes())).map_err(Into::into).boxed()
}

//! A service behind an acceptor, on a thread of its own.
#![allow(dead_code, reason = "each test uses its part")]

use std::net::SocketAddr;
use std::thread::JoinHandle;

use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_deferred::{Acceptor, BoxError, ShutdownHandle};

/// Served until it is dropped.
pub(crate) struct Served {
    pub(crate) addr: SocketAddr,
    shutdown: ShutdownHandle,
    thread: Option<JoinHandle<()>>,
}

/// Serves what `make` makes on a free port of the loopback interface.
pub(crate) fn serve<S, B>(make: impl FnOnce() -> S + Send + 'static) -> Served
where
    S: Service<Request<Incoming>, Response = Response<B>> + 'static,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    let acceptor = Acceptor::bind("127.0.0.1:0").unwrap();
    let (addr, shutdown) = (acceptor.local_addr().unwrap(), acceptor.shutdown_handle());
    let thread = std::thread::spawn(move || acceptor.run(make).unwrap());
    Served { addr, shutdown, thread: Some(thread) }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.shutdown();
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

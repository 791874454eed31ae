//! A server whose connections and descriptors are counted, before and after.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Instant;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_deferred::acceptor::{Snapshot, Stats};
use hyper_deferred::{Acceptor, BoxError, ShutdownHandle};
use tokio::task::LocalSet;

use super::{Client, PATIENCE};

static ALONE: Mutex<()> = Mutex::new(());

/// A server in a thread of its own. Other servers of the process wait until it has [finished](Self::finish).
pub struct Watched {
    addr: Option<SocketAddr>,
    pub handle: ShutdownHandle,
    pub stats: Stats,
    returned: mpsc::Receiver<io::Result<()>>,
    descriptors_before: usize,
    // Nobody reads it: it is held.
    _alone: MutexGuard<'static, ()>,
}

// ===== impl Watched =====

impl Watched {
    /// Runs what `acceptor` makes in a thread. `make_service` is called there, so that the service need not be `Send`.
    pub fn run<S, B>(acceptor: impl FnOnce() -> Acceptor, make_service: impl FnOnce() -> S + Send + 'static) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body + 'static,
        B::Error: Into<BoxError>,
    {
        Self::start(acceptor, |acceptor| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            // In a task of its own: as the main future it would be polled whenever any other task is.
            LocalSet::new().block_on(&runtime, async {
                let service = make_service();
                tokio::task::spawn_local(acceptor.serve(service)).await.unwrap()
            })
        })
    }

    /// Runs it on several workers.
    pub fn run_workers<S, B>(
        workers: usize,
        acceptor: impl FnOnce() -> Acceptor,
        make_service: impl Fn() -> S + Send + Sync + 'static,
    ) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body + 'static,
        B::Error: Into<BoxError>,
    {
        Self::start(acceptor, move |acceptor| acceptor.run_workers(workers.try_into().unwrap(), make_service))
    }

    fn start(
        acceptor: impl FnOnce() -> Acceptor,
        serve: impl FnOnce(Acceptor) -> io::Result<()> + Send + 'static,
    ) -> Self {
        let alone = alone();
        // The first runtime of a process opens what all of them share: a pair of sockets for signals.
        drop(tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
        let descriptors_before = descriptors();
        let acceptor = acceptor();
        let (addr, handle, stats) = (acceptor.local_addr().ok(), acceptor.shutdown_handle(), acceptor.stats());
        let (done, returned) = mpsc::channel();
        thread::spawn(move || done.send(serve(acceptor)));
        Self { addr, handle, stats, returned, descriptors_before, _alone: alone }
    }

    /// The same on any port of the loopback interface.
    pub fn on_loopback<S, B>(make_service: impl FnOnce() -> S + Send + 'static) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body + 'static,
        B::Error: Into<BoxError>,
    {
        Self::run(untimed, make_service)
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr.unwrap()
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.addr())
    }

    pub fn stats(&self) -> Snapshot {
        self.stats.snapshot()
    }

    /// Asks on `control`, which must be answered at `/now`, until the numbers are as they should be.
    pub fn await_stats(&self, control: &mut Client, expected: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.ask(control);
            let stats = self.stats();
            check(&stats);
            if expected(&stats) {
                return stats;
            }
            assert!(Instant::now() < deadline, "the server is still at {stats:?}");
        }
    }

    fn ask(&self, control: &mut Client) {
        if cfg!(hyper_deferred_tasks) {
            // Who asks again and again on one connection has a hyper kept at hand there, and is never idle.
            let mut client = self.connect();
            client.write("GET /now HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
            client.read_to_end();
        } else {
            assert_eq!(control.round_trip("/now").0.status, 200);
        }
    }

    /// Waits until nobody but `control` is there any more, and no other descriptor.
    pub fn await_rest(&self, control: &mut Client) {
        self.await_stats(control, |stats| stats.parked == 0 && stats.active == 0 && stats.idle == 1);
    }

    /// Waits until the server has returned, after a shutdown, and checks that nothing of it is left.
    pub fn join(self) -> Snapshot {
        self.returned.recv_timeout(PATIENCE).expect("the server has ended").unwrap();
        let stats = self.stats();
        assert_nothing_held(&stats);
        assert_eq!(descriptors(), self.descriptors_before, "descriptors are open that were not before");
        stats
    }

    /// Shuts the server down and [joins](Self::join) it.
    pub fn finish(self) -> Snapshot {
        self.handle.shutdown();
        self.join()
    }
}

// ===== helpers =====

/// Waits for its turn to open descriptors. They are counted, and are the process's.
pub fn alone() -> MutexGuard<'static, ()> {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // The first runtime of a process opens some for signals, which stay.
    drop(tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
    alone
}

/// An acceptor without deadlines: nothing that is forgotten is found because one of them has passed.
pub fn untimed() -> Acceptor {
    let mut builder = hyper_deferred::server::conn::http1::Builder::new();
    builder.header_read_timeout(None);
    Acceptor::bind("127.0.0.1:0").unwrap().http1(&builder)
}

/// The open descriptors of this process.
pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

pub fn assert_nothing_held(stats: &Snapshot) {
    check(stats);
    let held = [stats.parked, stats.idle, stats.active, stats.slab_bytes];
    assert_eq!(held, [0; 4], "parked, idle, active and bytes are back to zero in {stats:?}");
}

/// No number has gone below zero.
fn check(stats: &Snapshot) {
    for gauge in [stats.parked, stats.idle, stats.active, stats.slab_bytes] {
        assert!(gauge < 1 << 40, "a number is below zero in {stats:?}");
    }
}

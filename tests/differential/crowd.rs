//! Other clients of the same acceptor, whose requests wait for as long as a case is played. With so many of them hyper is
//! not left with a request that has to wait: it is released from it, in the poll that finds that it has to.

use std::future::{Future, pending};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_deferred::acceptor::Stats;
use tokio::task::yield_now;

use super::body::PlannedBody;
use super::service::{Planned, ServiceError};

/// What the crowd asks for, and no case does.
const PATH: &str = "/crowd";
/// Twice as many as hypers are left with their requests: each is released from its first, and left with the next.
pub const CROWD: usize = 64;

/// Lets the crowd wait for ever, and serves all others as they have planned.
pub struct Crowded(pub Planned);

/// All that may make a difference to who has a hyper after them; the last is the last to have the one that a case gets.
const HEADS: [(&str, &str, &str); 4] = [
    ("HEAD", "1.1", ""),
    ("GET", "1.1", "te: trailers\r\n"),
    ("GET", "1.1", ""),
    ("GET", "1.0", "connection: keep-alive\r\n"),
];
/// How often the runtime turns before it is believed that a case's settings refuse such requests.
const TURNS_MAX: usize = 1000;

/// Connects so many, and returns when all of them wait; or when one is refused, as by a limit for heads.
pub async fn gather(count: usize, addr: SocketAddr, stats: &Stats) -> Vec<TcpStream> {
    let mut crowd = Vec::new();
    while crowd.len() < count {
        // One at a time: the queue to the acceptor is short.
        let mut client = TcpStream::connect(addr).unwrap();
        let (method, version, header) = HEADS[crowd.len() % HEADS.len()];
        write!(client, "{method} {PATH} HTTP/{version}\r\n{header}\r\n").unwrap();
        crowd.push(client);
        let mut turns = 0;
        while stats.snapshot().parked < crowd.len() as u64 {
            turns += 1;
            if turns > TURNS_MAX {
                return crowd;
            }
            yield_now().await;
        }
    }
    crowd
}

impl Service<Request<Incoming>> for Crowded {
    type Response = Response<PlannedBody>;
    type Error = ServiceError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if request.uri().path() == PATH { Box::pin(pending()) } else { self.0.call(request) }
    }
}

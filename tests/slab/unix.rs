//! Unix sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use http::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_deferred::{Acceptor, Outcome, PeerAddr};

use crate::support::{PATIENCE, Park, Watched, alone, text};

/// A path that nothing is at; what is there in the end is removed.
pub(crate) struct SocketPath(pub(crate) PathBuf);

impl SocketPath {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hyper-deferred-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Self(path)
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn read_response(stream: &mut BufReader<UnixStream>) -> (String, String) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).unwrap(), 0, "{head:?}");
    }
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |len| len.parse().unwrap());
    let mut body = vec![0; len];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

#[test]
fn they_are_served_like_others() {
    for bound_elsewhere in [false, true] {
        let path = SocketPath::new("served");
        let (park, responders, outcomes) = Park::new();
        let server = Watched::run(
            || {
                if bound_elsewhere {
                    Acceptor::from_unix(UnixListener::bind(&path.0).unwrap()).unwrap()
                } else {
                    Acceptor::bind_unix(&path.0).unwrap()
                }
            },
            || {
                service_fn(move |request: Request<Incoming>| {
                    assert!(request.extensions().get::<PeerAddr>().is_none(), "it has none");
                    park.call(request)
                })
            },
        );
        let connect = || {
            let stream = UnixStream::connect(&path.0).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            BufReader::new(stream)
        };
        let mut client = connect();
        for _ in 0..100 {
            client.get_mut().write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
            responders.recv_timeout(PATIENCE).unwrap().send(text("woken")).unwrap();
            let (head, body) = read_response(&mut client);
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            assert_eq!(body, "woken");
            assert_eq!(outcomes.recv_timeout(PATIENCE), Ok(Outcome::Answered));
        }
        // More than its buffers take, so that it waits in a task, and then one that leaves while it waits.
        client.get_mut().write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
        responders.recv_timeout(PATIENCE).unwrap().send(text(vec![b'x'; 3_000_000])).unwrap();
        assert_eq!(read_response(&mut client).1.len(), 3_000_000);
        assert_eq!(outcomes.recv_timeout(PATIENCE), Ok(Outcome::Answered));
        client.get_mut().write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
        let _held = responders.recv_timeout(PATIENCE).unwrap();
        drop(client);
        assert_eq!(outcomes.recv_timeout(PATIENCE), Ok(Outcome::ClientGone));
        // And a shutdown.
        let mut client = connect();
        client.get_mut().write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
        let _held = responders.recv_timeout(PATIENCE).unwrap();
        server.handle.shutdown();
        assert!(read_response(&mut client).0.starts_with("HTTP/1.1 503 "));
        drop(client);
        server.join();
    }
}

#[test]
fn a_path_that_is_taken_is_an_error() {
    let _alone = alone();
    let path = SocketPath::new("taken");
    let acceptor = Acceptor::bind_unix(&path.0).unwrap();
    assert_eq!(Acceptor::bind_unix(&path.0).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    assert_eq!(acceptor.local_addr().unwrap_err().kind(), std::io::ErrorKind::Unsupported);
}

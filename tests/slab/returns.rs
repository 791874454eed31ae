//! Connections that have waited on IO in a task of their own, and come back.

use http::Response;

use crate::HAS_SLAB;
use crate::support::{PATIENCE, Park, Watched};

const ROUNDS: usize = 2_000;

#[test]
fn the_next_request_may_come_just_when_a_stream_ends() {
    let (park, responders, _outcomes) = Park::new();
    let server = Watched::on_loopback(|| park);
    let mut client = server.connect();
    for _ in 0..ROUNDS {
        client.get("/");
        let responder = responders.recv_timeout(PATIENCE).unwrap();
        let mut body = responder.stream(Response::new(()).into_parts().0).unwrap();
        assert_eq!(client.read_head().status, 200);
        body.try_send_data("a".into()).unwrap();
        assert_eq!(client.read_chunk(), b"a");
        drop(body);
        assert_eq!(client.read_chunk(), b"");
    }
    assert_eq!(server.stats().graduated > 0, HAS_SLAB);
    drop(client);
    server.finish();
}

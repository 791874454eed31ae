//! A request that owns its bytes.
//!
//! hyper's header values and URI are slices of its read buffer: one kept `HeaderValue` keeps 8 KiB. Before the service
//! sees a request that is likely to wait and to be kept, these slices are moved into one allocation of their own size.

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Uri};

/// Moves the header values and the URI of `request` out of hyper's read buffer, into one allocation of their own size.
///
/// hyper's are slices of that buffer, so that a service which keeps one of them, a token for one, keeps 8 KiB for as
/// long. The builders of this crate, and its acceptor, do this before the service sees a request that is likely to wait,
/// and to be kept for that time. One waits if its connection's last request had to, and on a new connection if the last
/// first request of another had to; it is kept if it has a body, if one that waited ever was, or with `half_close`, where
/// that does not show. What is answered at once, or is dropped in the service's call, does not pay for it. Whoever knows
/// better than that does it where it is known:
///
/// ```
/// use http::Request;
/// use hyper_deferred::server::conn::rehome;
///
/// async fn long_poll<B>(mut request: Request<B>) {
///     rehome(&mut request);
///     // From here on what is kept of `request` is no more than it has.
/// }
/// ```
///
/// A request that is its own already is copied once more, and otherwise the same. `Extensions` are left as they are.
pub fn rehome<B>(request: &mut Request<B>) {
    let uri = request.uri();
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    // An origin-form target, which is nearly every one, is its path and query and nothing else.
    let is_origin_form = uri.scheme().is_none() && uri.authority().is_none();
    let is_root = is_origin_form && path == "/";
    let uri_len = if is_root || !is_origin_form { 0 } else { path.len() };
    let values_len: usize = request.headers().values().map(HeaderValue::len).sum();
    let mut bytes = BytesMut::with_capacity(uri_len + values_len);
    bytes.extend_from_slice(&path.as_bytes()[..uri_len]);
    for value in request.headers().values() {
        bytes.extend_from_slice(value.as_bytes());
    }
    let mut bytes = bytes.freeze();
    let uri_bytes = bytes.split_to(uri_len);
    let uri = if is_root {
        Ok(Uri::from_static("/"))
    } else if is_origin_form {
        Uri::from_maybe_shared(uri_bytes)
    } else {
        Uri::try_from(request.uri().to_string())
    };
    // What hyper has parsed parses again; were it not so, the slice into hyper's buffer would be as right.
    if let Ok(uri) = uri {
        *request.uri_mut() = uri;
    }
    for value in request.headers_mut().values_mut() {
        move_value(value, bytes.split_to(value.len()));
    }
}

fn move_value(value: &mut HeaderValue, bytes: Bytes) {
    if let Ok(mut moved) = HeaderValue::from_maybe_shared(bytes) {
        moved.set_sensitive(value.is_sensitive());
        *value = moved;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rehomed(uri: &str) -> Request<()> {
        let mut request = Request::builder().uri(uri).header("accept", "a").header("accept", "b").body(()).unwrap();
        rehome(&mut request);
        request
    }

    #[test]
    fn the_request_is_the_same() {
        for uri in ["/", "/a?b=c", "*", "http://host:80/a?b", "host:443"] {
            let request = rehomed(uri);
            assert_eq!(*request.uri(), uri.parse::<Uri>().unwrap());
            let accept: Vec<_> = request.headers().get_all("accept").iter().collect();
            assert_eq!(accept, ["a", "b"]);
        }
    }

    #[test]
    fn a_value_may_be_secret_and_need_not_be_text() {
        let mut secret = HeaderValue::from_bytes(b"\xff\t~").unwrap();
        secret.set_sensitive(true);
        let mut request = Request::builder().header("cookie", secret).header("empty", "").body(()).unwrap();
        rehome(&mut request);
        let cookie = &request.headers()["cookie"];
        assert!(cookie.is_sensitive());
        assert_eq!(cookie.as_bytes(), b"\xff\t~");
        assert_eq!(request.headers()["empty"], "");
    }
}

//! Services for the tests that pin sizes.

use std::convert::Infallible;
use std::future::Ready;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

pub(crate) type Socket = TokioIo<TcpStream>;

/// A service without a state.
pub(crate) struct Stateless;

/// A service that shares its state with those of other connections.
pub(crate) struct Shared(#[allow(dead_code, reason = "only its size counts")] Arc<u8>);

macro_rules! service {
    ($name:ident) => {
        impl Service<Request<Incoming>> for $name {
            type Response = Response<Full<Bytes>>;
            type Error = Infallible;
            type Future = Ready<Result<Response<Full<Bytes>>, Infallible>>;

            fn call(&self, _: Request<Incoming>) -> Self::Future {
                std::future::ready(Ok(Response::default()))
            }
        }
    };
}

service!(Stateless);
service!(Shared);

pub(crate) fn assert_send<T: Send>() {}

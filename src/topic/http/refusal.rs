//! The answer to a request that is not served.

use std::fmt;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};

use super::NO_STORE;

/// What a request gets instead of a topic: the error of the hooks in a [`Builder`](super::Builder).
///
/// Any response can be one, see [`From`].
#[derive(Debug)]
pub struct Refusal(Box<Response<Bytes>>);

impl Refusal {
    /// An answer that says in plain text why.
    pub fn new(status: StatusCode, why: impl fmt::Display) -> Self {
        let mut response = Response::new(Bytes::from(format!("{why}\n")));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
        Self::from(response)
    }

    pub(super) fn into_response(self) -> Response<Bytes> {
        *self.0
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> StatusCode {
        self.0.status()
    }
}

impl From<Response<Bytes>> for Refusal {
    fn from(response: Response<Bytes>) -> Self {
        Self(Box::new(response))
    }
}

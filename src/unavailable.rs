//! The answer of whoever is too busy.

use std::time::Duration;

use http::header::{HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

/// `503 Service Unavailable` that says when to come again (RFC 9110 section 10.2.3), in whole seconds, one at least.
pub(crate) fn unavailable<B: Default>(retry_after: Duration) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after.as_secs().max(1)));
    response
}

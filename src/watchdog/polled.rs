//! What is known of a request that is being polled.

use http::{Method, Request, Uri};

use crate::context::Context;

/// As much as is known.
#[derive(Clone)]
pub(crate) enum Polled {
    /// All that there is to know.
    Known(Context),
    /// A service is called with it, and none with contexts has been yet.
    #[cfg_attr(not(feature = "acceptor"), allow(dead_code, reason = "an acceptor's"))]
    Called { method: Method, uri: Uri },
    /// A future of a service that nobody has given a context.
    #[cfg_attr(not(feature = "acceptor"), allow(dead_code, reason = "an acceptor's"))]
    Unknown,
}

// ===== impl Polled =====

impl Polled {
    #[cfg_attr(not(feature = "acceptor"), allow(dead_code, reason = "an acceptor's"))]
    pub(crate) fn called<B>(request: &Request<B>) -> Self {
        Self::Called { method: request.method().clone(), uri: request.uri().clone() }
    }
}

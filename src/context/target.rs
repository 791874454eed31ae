//! A request's target, kept without the connection's buffers.

use std::sync::OnceLock;

use bytes::Bytes;
use http::Uri;

/// A URI as text, parsed again when somebody asks for it: most requests are served without.
///
/// A parsed one is a slice of the connection's read buffer, or of the request's head, and keeps all of it alive.
pub(super) struct Target {
    text: Bytes,
    parsed: OnceLock<Uri>,
}

// ===== impl Target =====

impl Target {
    pub(super) fn new(uri: &Uri) -> Self {
        let text = match uri.path_and_query() {
            Some(target) if uri.scheme().is_none() && uri.authority().is_none() => {
                Bytes::copy_from_slice(target.as_str().as_bytes())
            }
            _ => Bytes::from(uri.to_string()),
        };
        Self { text, parsed: OnceLock::new() }
    }

    pub(super) fn uri(&self) -> &Uri {
        // What was written by a URI is one.
        self.parsed.get_or_init(|| Uri::from_maybe_shared(self.text.clone()).unwrap_or_default())
    }
}

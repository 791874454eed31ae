//! A request's target, kept without the connection's buffers.

use std::sync::OnceLock;

use http::Uri;

/// A URI as text, parsed again when somebody asks for it: most requests are served without.
///
/// A parsed one is a slice of the connection's read buffer, or of the request's head, and keeps all of it alive.
pub(super) struct Target {
    text: Box<str>,
    // Boxed, because it is large and mostly not there.
    parsed: OnceLock<Box<Uri>>,
}

// ===== impl Target =====

impl Target {
    pub(super) fn new(uri: &Uri) -> Self {
        let text = match uri.path_and_query() {
            Some(target) if uri.scheme().is_none() && uri.authority().is_none() => target.as_str().into(),
            _ => uri.to_string().into(),
        };
        Self { text, parsed: OnceLock::new() }
    }

    pub(super) fn uri(&self) -> &Uri {
        // What was written by a URI is one.
        self.parsed.get_or_init(|| Box::new(self.text.parse().unwrap_or_default()))
    }
}

//! What is remembered of a connection while it has no hyper.

/// What must be remembered of a connection's past.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Notes {
    /// Whether the last request had to wait for its answer, if there was one. Two facts in one byte, for the slab.
    pub(crate) waited: Option<bool>,
    /// A graceful shutdown has begun: the request in hand is the last.
    pub(crate) last: bool,
}

impl Notes {
    /// A request has come: hyper closes such a connection at once when it is shut down while idle.
    pub(crate) fn served(self) -> bool {
        self.waited.is_some()
    }
}

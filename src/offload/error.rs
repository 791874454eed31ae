//! Why offloaded work gave no result.

use std::fmt;
use std::time::Duration;

use http::{Response, StatusCode};
use tokio::task::JoinError;

use crate::unavailable::unavailable;

/// Offloaded work gave no result.
#[derive(Debug)]
pub struct OffloadError {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Full { retry_after: Duration },
    Failed(JoinError),
}

impl OffloadError {
    pub(super) fn full(retry_after: Duration) -> Self {
        Self { kind: Kind::Full { retry_after } }
    }

    pub(super) fn failed(error: JoinError) -> Self {
        Self { kind: Kind::Failed(error) }
    }

    /// The queue was full: the work was not accepted.
    pub fn is_full(&self) -> bool {
        matches!(self.kind, Kind::Full { .. })
    }

    /// The work panicked.
    pub fn is_panic(&self) -> bool {
        matches!(&self.kind, Kind::Failed(error) if error.is_panic())
    }

    /// What a client is told: `503` with `Retry-After` when the queue was full, `500` when the work panicked, `503`
    /// when the runtime is shutting down. The body is empty.
    pub fn to_response<B: Default>(&self) -> Response<B> {
        match &self.kind {
            Kind::Full { retry_after } => unavailable(*retry_after),
            Kind::Failed(error) if error.is_panic() => {
                let mut response = Response::new(B::default());
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                response
            }
            Kind::Failed(_) => unavailable(Duration::ZERO),
        }
    }
}

impl fmt::Display for OffloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::Full { .. } => "the work was not accepted: the pool's queue is full, try again later",
            Kind::Failed(error) if error.is_panic() => "the offloaded work panicked",
            Kind::Failed(_) => "the work was not begun: the runtime is shutting down",
        })
    }
}

impl std::error::Error for OffloadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::Full { .. } => None,
            Kind::Failed(error) => Some(error),
        }
    }
}

//! How the accept loop tells its connections to end, and waits for them.
//!
//! Each holds a [`Stop`], and the drain is over when none is held any more. Dropping the [`Drain`] (the accept loop was
//! dropped) ends the connections too.

use std::time::Duration;

use tokio::sync::watch;

use super::super::shutdown::Phase;

/// The accept loop's end: tells the connections, and waits for them.
pub(super) struct Drain {
    phase: watch::Sender<Phase>,
}

/// A connection's end. It is counted by being held.
#[derive(Clone)]
pub(super) struct Stop {
    phase: watch::Receiver<Phase>,
}

// ===== impl Drain =====

impl Drain {
    pub(super) fn new() -> Self {
        Self { phase: watch::Sender::new(Phase::Serving) }
    }

    /// What a new connection holds.
    pub(super) fn stop(&self) -> Stop {
        Stop { phase: self.phase.subscribe() }
    }

    /// Tells every connection to finish, for `timeout` at most, and waits until the last one has.
    pub(super) async fn finish(self, timeout: Duration) {
        self.phase.send_replace(Phase::Draining);
        if tokio::time::timeout(timeout, self.phase.closed()).await.is_err() {
            tracing::debug!(connections = self.phase.receiver_count(), "closing what the shutdown's deadline left");
            self.phase.send_replace(Phase::Closing);
            self.phase.closed().await;
        }
    }
}

// ===== impl Stop =====

impl Stop {
    /// Resolves when the connection is to finish.
    pub(super) async fn draining(&mut self) {
        // An error means that the accept loop was dropped, which is as good a reason.
        let _ = self.phase.wait_for(|phase| *phase != Phase::Serving).await;
    }

    /// Resolves when the connection is to close, whatever it does.
    pub(super) async fn closing(&mut self) {
        let _ = self.phase.wait_for(|phase| *phase == Phase::Closing).await;
    }
}

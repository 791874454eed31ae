//! How an acceptor ends: the signal that begins it, and the count of the connections that have yet to finish.
//!
//! Two channels, because two parties signal. [`ShutdownHandle`] tells the accept loop to stop, from anywhere. The loop
//! tells its connections through a [`Drain`] of its own; each of them holds a [`Stop`], and the drain is over when
//! none is held any more. Dropping the drain (the accept loop was dropped) ends the connections too.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// Ends an [`Acceptor`](super::Acceptor) in an orderly way. Cheap to clone, used from any thread.
///
/// # What happens on drop
///
/// Nothing: the acceptor serves on.
#[derive(Clone, Debug)]
pub struct ShutdownHandle {
    stop: Arc<watch::Sender<bool>>,
}

/// What the accept loop tells its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Finish what is active, answer what is parked, close what is idle.
    Draining,
    /// The deadline has passed.
    Closing,
}

/// The accept loop's end: tells the connections, and waits for them.
pub(super) struct Drain {
    phase: watch::Sender<Phase>,
}

/// A connection's end. It is counted by being held.
pub(super) struct Stop {
    phase: watch::Receiver<Phase>,
}

// ===== impl ShutdownHandle =====

impl ShutdownHandle {
    pub(super) fn new() -> Self {
        Self { stop: Arc::new(watch::Sender::new(false)) }
    }

    /// Begins the shutdown: the acceptor stops accepting, finishes what is active, answers every parked request, closes
    /// idle connections, and closes the rest after its [timeout](super::Acceptor::shutdown_timeout).
    ///
    /// Returns at once; [`serve`](super::Acceptor::serve) or [`run`](super::Acceptor::run) return when it is done.
    /// Calling it again changes nothing. Called before the acceptor serves, it ends it at its start.
    pub fn shutdown(&self) {
        self.stop.send_replace(true);
    }

    /// Resolves once [`shutdown`](Self::shutdown) has been called on this handle or a clone of it.
    pub(super) async fn requested(&self) {
        // The sender is held by `self`, so that the only error, its absence, cannot happen.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }
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

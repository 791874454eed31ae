//! How an acceptor ends: the signal that begins it, and how far it is.
//!
//! [`ShutdownHandle`] tells the accept loop to stop, from anywhere. How the loop tells its connections, and waits for
//! them, is its own affair: the slab and the tasks have their own ways.

use std::sync::Arc;

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

/// How far a shutdown is: what an accept loop tells its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    /// Finish what is active, answer what is parked, close what is idle.
    Draining,
    /// The deadline has passed.
    Closing,
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

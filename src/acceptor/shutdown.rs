//! The signal that ends an acceptor.

use std::sync::Arc;

use tokio::sync::watch;

/// Ends an [`Acceptor`](super::Acceptor) in an orderly way. Cheap to clone, used from any thread.
#[derive(Clone, Debug)]
pub struct ShutdownHandle {
    stop: Arc<watch::Sender<bool>>,
}

impl ShutdownHandle {
    pub(super) fn new() -> Self {
        Self { stop: Arc::new(watch::Sender::new(false)) }
    }

    /// Begins the shutdown. Calling it again changes nothing.
    pub fn shutdown(&self) {
        self.stop.send_replace(true);
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }
}

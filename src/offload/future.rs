//! The future of offloaded work.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::OffloadError;
use crate::context::Context;

/// The result of offloaded work, to come. See [`Pool::offload`](super::Pool::offload).
#[must_use = "offloaded work does nothing unless its future is polled"]
pub struct Offload<T> {
    state: State<T>,
}

enum State<T> {
    Refused(Option<OffloadError>),
    // Boxed: it waits for its turn, hands the work over and waits for the result, and a parked request that holds it
    // should not pay for the largest of these.
    Accepted(Pin<Box<dyn Future<Output = Result<T, OffloadError>> + Send>>),
}

/// Work that has been handed over is taken back by dropping this, as long as no thread has begun it.
struct TakeBack<T>(JoinHandle<T>);

// ===== impl Offload =====

impl<T: Send + 'static> Offload<T> {
    pub(super) fn refused(error: OffloadError) -> Self {
        Self { state: State::Refused(Some(error)) }
    }

    pub(super) fn admitted<F>(admitted: OwnedSemaphorePermit, running: Arc<Semaphore>, work: F) -> Self
    where
        F: FnOnce() -> T + Send + 'static,
    {
        let work = Context::save().bind(work);
        let accepted = async move {
            let running = running.acquire_owned().await.expect("a pool's semaphores are never closed");
            let handle = tokio::task::spawn_blocking(move || {
                // Both go back when the work is done, also when it panics, whether or not anyone waits for it.
                let _permits = (admitted, running);
                work()
            });
            TakeBack(handle).await
        };
        Self { state: State::Accepted(Box::pin(accepted)) }
    }
}

impl<T> Future for Offload<T> {
    type Output = Result<T, OffloadError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            State::Refused(error) => Poll::Ready(Err(error.take().expect("polled after it had given its output"))),
            State::Accepted(accepted) => accepted.as_mut().poll(cx),
        }
    }
}

// Nothing in it is pinned but what is boxed.
impl<T> Unpin for Offload<T> {}

impl<T> fmt::Debug for Offload<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offload").field("refused", &matches!(self.state, State::Refused(_))).finish()
    }
}

// ===== impl TakeBack =====

impl<T> Future for TakeBack<T> {
    type Output = Result<T, OffloadError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_err(OffloadError::failed)
    }
}

impl<T> Drop for TakeBack<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

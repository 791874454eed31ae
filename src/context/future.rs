//! A future that is polled within a saved context.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use pin_project_lite::pin_project;

use super::Saved;

pin_project! {
    /// A future of which each poll, and the drop, runs within a [`Saved`].
    ///
    /// What it sets in registered locals in one poll it finds in the next, and nobody else does.
    ///
    /// # What happens on drop
    ///
    /// The future inside is dropped within the context, so that its own `Drop` code finds it.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct InContext<F> {
        saved: Saved,
        // Taken out to be dropped within the context; there until then.
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for InContext<F> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            let mut future = this.future;
            if future.is_some() {
                this.saved.enter_mut(|| future.set(None));
            }
        }
    }
}

/// [`in_context`](Self::in_context) for every future.
pub trait InContextExt: Future + Sized {
    /// Polls this future within `saved`, wherever it is spawned.
    ///
    /// ```
    /// use hyper_deferred::context::{Context, InContextExt as _};
    ///
    /// # async fn notify() {}
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// tokio::spawn(async { notify().await }.in_context(Context::save()));
    /// # });
    /// ```
    fn in_context(self, saved: Saved) -> InContext<Self> {
        InContext { saved, future: Some(self) }
    }
}

impl<F: Future> InContextExt for F {}

// ===== impl InContext =====

impl<F> InContext<F> {
    /// What it is polled within.
    pub fn saved(&self) -> &Saved {
        &self.saved
    }
}

impl<F: Future> Future for InContext<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<F::Output> {
        let this = self.project();
        let future = this.future.as_pin_mut().expect("only the drop takes the future out");
        this.saved.enter_mut(|| future.poll(cx))
    }
}

//! A response's body that follows a plan.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};

use super::log::Actor;
use super::plan::{BodyStep, Wait};
use super::shared::{Shared, poll_yield};

/// A response's body.
pub struct PlannedBody {
    shared: Arc<Shared>,
    request: usize,
    gate: usize,
    keep_wakers: bool,
    steps: VecDeque<BodyStep>,
    exact: Option<u64>,
    yielded: bool,
}

// ===== impl PlannedBody =====

impl PlannedBody {
    /// For the request with this number. The gates of its steps come after the service's own two.
    pub fn new(shared: Arc<Shared>, request: usize, keep_wakers: bool, steps: &[BodyStep], exact: Option<u64>) -> Self {
        shared.responding.fetch_add(1, Ordering::Relaxed);
        Self { shared, request, gate: 2, keep_wakers, steps: steps.iter().cloned().collect(), exact, yielded: false }
    }
}

impl Body for PlannedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        this.shared.see(cx, this.keep_wakers);
        loop {
            let Some(step) = this.steps.front() else {
                this.shared.log.note(Actor::Response(this.request), "gave its end");
                return Poll::Ready(None);
            };
            let ready = match step {
                BodyStep::Wait(Wait::No) => Poll::Ready(()),
                BodyStep::Wait(Wait::Yield) => poll_yield(&mut this.yielded, cx),
                BodyStep::Wait(Wait::Gate) => this.shared.poll_gate((this.request, this.gate), cx),
                BodyStep::Data(_) | BodyStep::Trailers | BodyStep::Error => break,
            };
            if ready.is_pending() {
                return Poll::Pending;
            }
            this.yielded = false;
            this.gate += 1;
            this.steps.pop_front();
        }
        let frame = match this.steps.pop_front() {
            Some(BodyStep::Data(len)) => Ok(Frame::data(pattern(len))),
            Some(BodyStep::Error) => Err(io::Error::other("body failed by plan")),
            _ => Ok(Frame::trailers(trailers())),
        };
        if let Some(exact) = &mut this.exact {
            *exact -= frame.as_ref().map_or(0, |frame| frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.exact.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for PlannedBody {
    fn drop(&mut self) {
        self.shared.responding.fetch_sub(1, Ordering::Relaxed);
        self.shared.log.note(Actor::Response(self.request), format!("dropped with {} steps left", self.steps.len()));
    }
}

fn pattern(len: usize) -> Bytes {
    const LEN_MAX: usize = 1 << 20;
    static PATTERN: [u8; LEN_MAX] = {
        let mut bytes = [0; LEN_MAX];
        let mut i = 0;
        while i < 4096 {
            bytes[i] = b'a' + (i % 26) as u8;
            i += 1;
        }
        bytes
    };
    Bytes::from_static(&PATTERN[..len])
}

fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("abc"));
    trailers.insert("x-other", HeaderValue::from_static("def"));
    trailers
}

//! What the services of one connection share with who drives it.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use hyper::body::Incoming;

use super::log::Log;
use super::plan::{Plan, Wait};

/// A place to wait at: of this request, the n-th.
pub type GateId = (usize, usize);

#[derive(Debug, Default)]
struct Gate {
    open: bool,
    waiting: Option<Waker>,
}

/// All that the services of one connection share with the driver.
#[derive(Default)]
pub struct Shared {
    pub log: Log,
    pub plans: Vec<Plan>,
    gates: Mutex<BTreeMap<GateId, Gate>>,
    pub tasks: Mutex<Vec<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    pub calls: AtomicUsize,
    pub kept: Mutex<Vec<Incoming>>,
    pub kept_parts: Mutex<Vec<http::request::Parts>>,
    wakers: Mutex<Vec<Waker>>,
    /// Requests whose future is pending.
    pub waiting: AtomicUsize,
    /// Response bodies that hyper holds.
    pub responding: AtomicUsize,
    /// A request with an upgrade was answered with something else.
    pub upgrade_refused: AtomicBool,
    /// The last request has nothing that keeps a connection active while it waits, or afterwards.
    pub last_is_plain: AtomicBool,
}

// ===== impl Shared =====

impl Shared {
    pub fn new(plans: Vec<Plan>) -> Arc<Self> {
        Arc::new(Self { plans, ..Self::default() })
    }

    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Whether a connection that has nothing to write or parse must be dormant: it waits for a plain request's answer, or
    /// for the next request.
    pub fn may_rest(&self) -> bool {
        let plain = self.calls() == 0 || self.last_is_plain.load(Ordering::Relaxed);
        plain && self.responding.load(Ordering::Relaxed) == 0
    }

    /// The gates that somebody waits at.
    pub fn waiting_gates(&self) -> Vec<GateId> {
        let gates = self.gates.lock().unwrap();
        gates.iter().filter(|(_, gate)| !gate.open && gate.waiting.is_some()).map(|(id, _)| *id).collect()
    }

    pub fn open(&self, id: GateId) {
        let waker = {
            let mut gates = self.gates.lock().unwrap();
            let gate = gates.entry(id).or_default();
            gate.open = true;
            gate.waiting.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub fn poll_gate(&self, id: GateId, cx: &mut Context<'_>) -> Poll<()> {
        let mut gates = self.gates.lock().unwrap();
        let gate = gates.entry(id).or_default();
        if gate.open {
            return Poll::Ready(());
        }
        gate.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    pub fn see(&self, cx: &Context<'_>, keep: bool) {
        if keep {
            self.wakers.lock().unwrap().push(cx.waker().clone());
        }
    }

    pub async fn wait(&self, wait: Wait, id: GateId, keep_wakers: bool) {
        let mut yielded = false;
        poll_fn(|cx| {
            self.see(cx, keep_wakers);
            match wait {
                Wait::No => Poll::Ready(()),
                Wait::Yield => poll_yield(&mut yielded, cx),
                Wait::Gate => self.poll_gate(id, cx),
            }
        })
        .await;
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().unwrap().push(Box::pin(task));
    }
}

pub fn poll_yield(yielded: &mut bool, cx: &mut Context<'_>) -> Poll<()> {
    if std::mem::replace(yielded, true) {
        return Poll::Ready(());
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

//! The queue itself: a handle that is cheap to clone.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use super::Builder;
use super::builder::Settings;
use super::leases::{DeadLetter, Leases};
use super::line::{Line, Value};
use crate::waiting::lock;

/// Values for requests that wait, each for exactly one. Cheap to clone, used from any thread.
pub struct Queue<T> {
    pub(super) inner: Arc<Inner<T>>,
}

/// The queue is full; the value comes back.
pub struct QueueFull<T>(pub T);

pub(super) struct Inner<T> {
    pub(super) settings: Settings<T>,
    pub(super) state: Mutex<State<T>>,
}

pub(super) struct State<T> {
    pub(super) line: Line<T>,
    pub(super) leases: Leases<T>,
    // How many values the queue answers for, wherever they are.
    pub(super) held: usize,
    next_seq: u64,
}

/// What is to be done when the lock is no longer held.
#[must_use = "someone waits for it"]
pub(super) struct Aftermath<T> {
    pub(super) wakes: Vec<Waker>,
    pub(super) dead: Vec<DeadLetter<T>>,
}

// ===== impl Queue =====

impl<T: Send + 'static> Queue<T> {
    /// A queue that answers for at most `values_max` values, with the settings that a [`Builder`] begins with.
    pub fn new(values_max: usize) -> Self {
        Builder::new(values_max).build()
    }

    pub(super) fn with(settings: Settings<T>) -> Self {
        let state = State { line: Line::new(), leases: Leases::new(), held: 0, next_seq: 0 };
        Self { inner: Arc::new(Inner { settings, state: Mutex::new(state) }) }
    }

    /// Gives `value` to the request that has waited for longest, or keeps it for the next. Never waits.
    ///
    /// # Errors
    ///
    /// Gives the value back when the queue is full.
    pub fn push(&self, value: T) -> Result<(), QueueFull<T>> {
        let mut state = lock(&self.inner.state);
        if state.held >= self.inner.settings.values_max {
            return Err(QueueFull(value));
        }
        state.held += 1;
        let seq = state.next_seq;
        state.next_seq += 1;
        let wake = state.line.hand(Value { value, seq, deliveries: 0 });
        drop(state);
        wake.into_iter().for_each(Waker::wake);
        Ok(())
    }
}

impl<T> Queue<T> {
    /// How many values wait for a request.
    pub fn len(&self) -> usize {
        lock(&self.inner.state).line.values()
    }

    /// Whether no value waits for a request.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many requests wait for a value.
    pub fn waiting(&self) -> usize {
        lock(&self.inner.state).line.requests()
    }

    /// How many values the queue answers for: those that wait, those on their way to a client, and those leased.
    pub fn held(&self) -> usize {
        lock(&self.inner.state).held
    }

    /// Hands `value` to the next in line.
    pub(super) fn give_back(&self, value: Value<T>) {
        let wake = lock(&self.inner.state).line.hand(value);
        wake.into_iter().for_each(Waker::wake);
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("len", &self.len()).field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

// ===== impl State =====

impl<T> State<T> {
    /// Leases that were not confirmed: each value goes to the next in line, or was delivered too often.
    pub(super) fn come_back(
        &mut self,
        values: impl IntoIterator<Item = Value<T>>,
        settings: &Settings<T>,
    ) -> Aftermath<T> {
        let mut aftermath = Aftermath { wakes: Vec::new(), dead: Vec::new() };
        for value in values {
            if value.deliveries >= settings.deliveries_max {
                self.held -= 1;
                aftermath.dead.push(DeadLetter { value: value.value, deliveries: value.deliveries });
            } else {
                aftermath.wakes.extend(self.line.hand(value));
            }
        }
        aftermath
    }
}

// ===== impl Inner =====

impl<T> Inner<T> {
    pub(super) fn settle(&self, aftermath: Aftermath<T>) {
        aftermath.wakes.into_iter().for_each(Waker::wake);
        aftermath.dead.into_iter().for_each(&self.settings.dead_letter);
    }
}

// ===== impl QueueFull =====

impl<T> fmt::Debug for QueueFull<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueFull").finish_non_exhaustive()
    }
}

impl<T> fmt::Display for QueueFull<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the queue is full: try again when something has been taken and confirmed")
    }
}

impl<T> std::error::Error for QueueFull<T> {}

//! The topic itself: a handle that is cheap to clone.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::cursor::Epoch;
use super::fed::{self, Fed};
use super::history::History;
use super::message::{Entry, Message};
use super::published::{PublishError, Published, Reason};
use super::settings::Settings;
use super::waiters::{Place, Waiters};
use super::{Batch, Builder, Cursor, Raw, Subscriber, Waiting};
use crate::timer::coarse_now;
use crate::waiting::{Driven, drive, lock};

/// How many waiters a publisher wakes itself, and how many are woken between two turns of the loop. A `LocalSet` polls 61
/// tasks before it lets the rest of its runtime have a turn: with fewer than these, a crowd does not pile up in front of
/// what else is to be done.
const WAKES_IN_SLICE: usize = 32;

/// How many waiters each one that was woken on another runtime wakes in its turn. One keeps the number of those under way
/// as it is.
const WAKES_HANDED_ON: usize = 1;

/// Messages for whoever waits for them, now or later.
///
/// Cheap to clone, and used from any thread; subscribers may live on several runtimes, or on none.
///
/// # How wakes are handed out
///
/// A publisher never waits for a subscriber, nor does it wake a crowd: it wakes the first few, and the rest is woken in
/// slices by a task on the runtime of the one who waits longest, which yields between two of them. Those who are woken on
/// another runtime wake the next ones too, lest a runtime that stands still holds up the others. Where there is no
/// runtime at all, there is no loop to hold either, and the publisher wakes them all.
pub struct Topic<T> {
    inner: Arc<Inner<T>>,
}

pub(super) struct Inner<T> {
    pub(super) settings: Arc<Settings<T>>,
    state: Mutex<State<T>>,
}

struct State<T> {
    epoch: Epoch,
    // There if the messages come from elsewhere.
    fed: Option<Fed>,
    history: History<T>,
    waiters: Waiters,
    // Where the task that wakes a crowd can run; there while someone waits.
    runtime: Option<Handle>,
    handing_out: bool,
    used: Instant,
}

// ===== impl Topic =====

impl Topic<Bytes> {
    /// A topic of plain bytes, with the settings that a [`Builder`] begins with.
    pub fn raw() -> Self {
        Builder::new(Raw).build()
    }
}

#[cfg(feature = "json")]
impl<T: serde::Serialize + Send + Sync + 'static> Topic<T> {
    /// A topic whose messages are JSON, with the settings that a [`Builder`] begins with.
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    pub fn json() -> Self {
        Builder::new(super::Json).build()
    }
}

impl<T: Send + Sync + 'static> Topic<T> {
    /// Publishes `value` to all who wait and to all who come while it is kept. Never waits.
    ///
    /// # Errors
    ///
    /// Gives the value back when it cannot be encoded, is larger than all the bytes that the history may hold, or the topic
    /// has its messages from elsewhere.
    pub fn publish(&self, value: T) -> Result<Published, PublishError<T>> {
        self.publish_at(value, None)
    }

    /// From now on messages come by [`relay`](Self::relay) alone.
    #[cfg(all(unix, feature = "zeromq"))]
    pub(crate) fn set_fed(&self) {
        lock(&self.inner.state).fed.get_or_insert_default();
    }

    /// Publishes what another topic has published at `at`, under the same cursor. What was had before is ignored; what
    /// does not follow begins the history anew, which readers are told by the gap.
    #[cfg(all(unix, feature = "zeromq"))]
    pub(crate) fn relay(&self, at: Cursor, value: T) -> Result<Published, PublishError<T>> {
        self.publish_at(value, Some(at))
    }

    /// `at` is where the message stands in the topic that this one is fed from, and must be there if it is.
    fn publish_at(&self, value: T, at: Option<Cursor>) -> Result<Published, PublishError<T>> {
        let inner = &self.inner;
        let encoded = match inner.settings.encode.encode(&value) {
            Ok(encoded) => encoded,
            Err(error) => return Err(PublishError { value, reason: Reason::Encode(error) }),
        };
        let (bytes, bytes_max) = (encoded.len(), inner.settings.history_bytes_max);
        if bytes > bytes_max {
            return Err(PublishError { value, reason: Reason::TooLarge { bytes, bytes_max } });
        }
        let mut state = lock(&inner.state);
        if state.fed.is_some() != at.is_some() {
            drop(state);
            return Err(PublishError { value, reason: Reason::Fed });
        }
        let outdated = match at.map_or(fed::Place::Next, |at| state.place(at)) {
            fed::Place::Had => return Ok(Published { cursor: state.latest(), waiting: 0 }),
            fed::Place::Next => None,
            fed::Place::Anew(epoch) => {
                state.epoch = epoch;
                at.map(|at| state.history.begin_anew(at.seq))
            }
        };
        let now = Instant::now();
        let message = Message::new(Entry { seq: state.history.head(), at: now, encoded, value });
        let evicted = state.history.push(message, &inner.settings);
        let cursor = state.latest();
        let waiting = state.waiters.len();
        state.used = now;
        state.waiters.make_due();
        let wakes = state.waiters.take_due(WAKES_IN_SLICE);
        let crowd = state.waiters.any_due() && !std::mem::replace(&mut state.handing_out, true);
        // Set only for a crowd: `replace` has not run otherwise, or it was set before.
        let runtime = if crowd { state.runtime.clone() } else { None };
        drop(state);
        drop((outdated, evicted));
        wakes.into_iter().for_each(Waker::wake);
        if crowd {
            inner.hand_out_on(runtime);
        }
        Ok(Published { cursor, waiting })
    }

    /// Waits for what comes after `cursor`: ready at once when that is already there, or when the cursor is not
    /// one of this topic's life.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the topic at once; the same cursor may be polled again and nothing is lost.
    pub fn poll(&self, cursor: Cursor) -> Waiting<T> {
        Waiting(self.subscribe(cursor))
    }

    /// Reads on and on from `cursor`.
    pub fn subscribe(&self, cursor: Cursor) -> Subscriber<T> {
        Subscriber::new(self.clone(), cursor)
    }
}

impl<T> Topic<T> {
    pub(super) fn with(settings: Arc<Settings<T>>) -> Self {
        let state = State {
            epoch: Epoch::new(),
            fed: None,
            history: History::new(),
            waiters: Waiters::new(),
            runtime: None,
            handing_out: false,
            used: Instant::now(),
        };
        Self { inner: Arc::new(Inner { settings, state: Mutex::new(state) }) }
    }

    /// Where the topic ends now: polling with it waits for the next message.
    pub fn latest(&self) -> Cursor {
        lock(&self.inner.state).latest()
    }

    /// Where what is kept begins now: polling with it gives all that is kept.
    pub fn oldest(&self) -> Cursor {
        let mut state = lock(&self.inner.state);
        let evicted = state.history.evict(Instant::now(), &self.inner.settings);
        let oldest = Cursor { epoch: state.epoch, seq: state.history.oldest() };
        drop(state);
        drop(evicted);
        oldest
    }

    /// How many are waiting.
    pub fn waiting(&self) -> usize {
        lock(&self.inner.state).waiters.len()
    }

    pub(super) fn settings(&self) -> &Settings<T> {
        &self.inner.settings
    }

    /// The one way to read: gives what comes after `cursor` and the place back, or parks in it.
    pub(super) fn poll_place(&self, cursor: Cursor, place: &mut Place, cx: &Context<'_>) -> Poll<Batch<T>> {
        let inner = &self.inner;
        let mut state = lock(&inner.state);
        if state.waits_for_more(cursor, place, cx) {
            return Poll::Pending;
        }
        let now = coarse_now();
        state.used = now;
        let outdated = state.history.evict(now, &inner.settings);
        let read = if state.is_ahead(cursor) {
            None
        } else {
            let epoch = state.epoch;
            state.history.read(cursor, epoch, &inner.settings)
        };
        let wakes = if place.is_none() { Vec::new() } else { state.hand_on() };
        let polled = match read {
            None => {
                if state.runtime.is_none() {
                    state.runtime = Handle::try_current().ok();
                }
                let replaced = state.waiters.park(place, cx);
                drop(state);
                drop(replaced);
                wakes.into_iter().for_each(Waker::wake);
                Poll::Pending
            }
            Some((batch, replaced)) => {
                let waited = !place.is_none();
                let left = state.leave(place);
                // While that is in the processor's cache; with the next message it will be out of it.
                let last = if waited && state.waiters.len() == 0 { state.history.forget_last() } else { None };
                drop(state);
                drop((left, replaced, last));
                wakes.into_iter().for_each(Waker::wake);
                Poll::Ready(batch)
            }
        };
        drop(outdated);
        polled
    }

    /// Gives the place back.
    pub(super) fn leave(&self, place: &mut Place) {
        if !place.is_none() {
            let left = lock(&self.inner.state).leave(place);
            drop(left);
        }
    }

    /// Whether nobody else holds this topic, nobody has used it for `age`, and so nobody would miss it.
    pub(super) fn is_unused(&self, now: Instant, age: Duration) -> bool {
        Arc::strong_count(&self.inner) == 1 && now.saturating_duration_since(lock(&self.inner.state).used) >= age
    }

    pub(super) fn mark_used(&self, now: Instant) {
        lock(&self.inner.state).used = now;
    }

    /// Drops what is outdated and what is only there to be fast.
    pub(super) fn trim(&self) {
        let mut state = lock(&self.inner.state);
        let outdated = state.history.evict(Instant::now(), &self.inner.settings);
        let spare = (state.waiters.len() == 0).then(|| {
            state.waiters = Waiters::new();
            state.history.shrink()
        });
        drop(state);
        drop((outdated, spare));
    }
}

impl<T> Clone for Topic<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<T> fmt::Debug for Topic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic").field("latest", &self.latest()).field("waiting", &self.waiting()).finish()
    }
}

// ===== impl State =====

impl<T> State<T> {
    fn latest(&self) -> Cursor {
        Cursor { epoch: self.epoch, seq: self.history.head() }
    }

    /// Whether the owner of `place` is parked there as it is and has nothing to do: whoever is woken for something else
    /// finds that out first.
    fn waits_for_more(&self, cursor: Cursor, place: &Place, cx: &Context<'_>) -> bool {
        cursor == self.latest() && self.waiters.is_parked(place, cx)
    }

    /// See [`Fed::is_ahead`].
    fn is_ahead(&self, cursor: Cursor) -> bool {
        self.fed.is_some_and(|fed| fed.is_ahead(cursor, self.latest()))
    }

    /// See [`Fed::place`].
    fn place(&mut self, at: Cursor) -> fed::Place {
        let latest = self.latest();
        self.fed.get_or_insert_default().place(at, latest)
    }

    /// What one who was woken does for those who are due to be.
    fn hand_on(&mut self) -> Vec<Waker> {
        if !self.waiters.any_due() {
            return Vec::new();
        }
        let here = Handle::try_current().ok().map(|runtime| runtime.id());
        if here.is_some() && here == self.runtime.as_ref().map(Handle::id) {
            // This runtime runs, and so does the task.
            return Vec::new();
        }
        self.waiters.take_due(WAKES_HANDED_ON)
    }

    /// What it gives is to be dropped when no lock is held.
    fn leave(&mut self, place: &mut Place) -> (Option<Waker>, Option<Handle>) {
        let waker = self.waiters.leave(place);
        // A runtime is not kept for nobody: it may end before the next one comes.
        (waker, if self.waiters.len() == 0 { self.runtime.take() } else { None })
    }
}

// ===== impl Inner =====

impl<T: Send + Sync + 'static> Inner<T> {
    fn hand_out_on(self: &Arc<Self>, runtime: Option<Handle>) {
        match runtime.or_else(|| Handle::try_current().ok()) {
            Some(runtime) => drive(self, &runtime),
            None => self.abandoned(),
        }
    }
}

impl<T: Send + Sync + 'static> Driven for Inner<T> {
    fn step(&self) -> Option<Instant> {
        let mut state = lock(&self.state);
        let wakes = state.waiters.take_due(WAKES_IN_SLICE);
        state.handing_out = state.waiters.any_due();
        let more = state.handing_out;
        drop(state);
        wakes.into_iter().for_each(Waker::wake);
        more.then(Instant::now)
    }

    /// Those on other runtimes still wait for their wake, and nobody else is going to give it.
    fn abandoned(&self) {
        while self.step().is_some() {}
    }
}

//! Who is here, when being here means to come back again and again.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::waiting::{Driven, List, Slots, drive, lock};

/// How many leave before the loop has a turn.
const LEAVES_IN_SLICE: usize = 64;

/// Stands for a window that the clock cannot express.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Who is here: a client that polls counts as present during the gap between two polls too.
///
/// A service [enters](Self::enter) for each request and keeps the [`Here`] while the request waits. Who has none left is
/// still here for the window; only when it passes has the client left. [`http`](super::http) does this by itself
/// when [told whom](super::http::Builder::presence) a request belongs to.
///
/// ```
/// use std::time::Duration;
/// use hyper_deferred::Topic;
/// use hyper_deferred::topic::{Presence, PresenceChange};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
/// # let _entered = runtime.enter();
/// let room = Topic::raw();
/// let told = room.clone();
/// let presence = Presence::new(Duration::from_secs(10), 1000, move |change| {
///     let text = match change {
///         PresenceChange::Joined(name) => format!("{name} has joined"),
///         PresenceChange::Left(name) => format!("{name} has left"),
///     };
///     let _too_large = told.publish(text.into());
/// });
/// let here = presence.enter("ada".to_owned()).unwrap();
/// assert_eq!(presence.all(), ["ada"]);
/// drop(here);
/// assert_eq!(presence.all(), ["ada"]); // for ten seconds more
/// ```
pub struct Presence<K: PresenceKey> {
    inner: Arc<Inner<K>>,
}

/// Counts one request of a client that is present. Its drop starts the window, if it was the last.
#[must_use = "dropping it means to leave"]
pub struct Here<K: PresenceKey> {
    inner: Arc<Inner<K>>,
    seat: u32,
}

/// Someone came or went.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PresenceChange<K> {
    /// Was not here and now is.
    Joined(K),
    /// Has been away for longer than the window.
    Left(K),
}

/// There are as many present as there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceFull {
    present_max: usize,
}

/// What names a client.
pub trait PresenceKey: Clone + Eq + Hash + Send + 'static {}

impl<K: Clone + Eq + Hash + Send + 'static> PresenceKey for K {}

struct Inner<K> {
    window: Duration,
    present_max: usize,
    on_change: Box<dyn Fn(PresenceChange<K>) + Send + Sync>,
    state: Mutex<State<K>>,
}

struct State<K> {
    by_key: HashMap<K, u32>,
    seats: Slots<Seat<K>>,
    // Who has no request left, in the order in which their windows end.
    leaving: List,
    changes: VecDeque<PresenceChange<K>>,
    telling: bool,
    runtime: Option<Handle>,
    driven: bool,
}

struct Seat<K> {
    key: K,
    requests: usize,
    until: Instant,
}

// ===== impl Presence =====

impl<K: PresenceKey> Presence<K> {
    /// Nobody is here yet. A client is present for `window` after its last request; at most `present_max` are present
    /// at once; `on_change` is told who joins and who leaves, one after another.
    ///
    /// `on_change` is called by whoever enters, or by a task of the runtime: it must be quick and must not panic.
    pub fn new(
        window: Duration,
        present_max: usize,
        on_change: impl Fn(PresenceChange<K>) + Send + Sync + 'static,
    ) -> Self {
        let state = State {
            by_key: HashMap::new(),
            seats: Slots::new(),
            leaving: List::new(),
            changes: VecDeque::new(),
            telling: false,
            runtime: None,
            driven: false,
        };
        Self {
            inner: Arc::new(Inner { window, present_max, on_change: Box::new(on_change), state: Mutex::new(state) }),
        }
    }

    /// A request of `key` begins.
    ///
    /// # Errors
    ///
    /// When one more would be present than may be.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime; one with its timer enabled is needed to notice that someone has left.
    pub fn enter(&self, key: K) -> Result<Here<K>, PresenceFull> {
        let runtime = Handle::current();
        let mut state = lock(&self.inner.state);
        let seat = match state.by_key.get(&key) {
            Some(seat) => *seat,
            None if state.by_key.len() >= self.inner.present_max => {
                return Err(PresenceFull { present_max: self.inner.present_max });
            }
            None => state.join(key),
        };
        let State { seats, leaving, .. } = &mut *state;
        seats.unlink(leaving, seat);
        seats.get_mut(seat).requests += 1;
        state.runtime.get_or_insert(runtime);
        drop(state);
        // Whoever was left behind by a runtime that ended is looked after again.
        self.inner.drive();
        self.inner.tell();
        Ok(Here { inner: self.inner.clone(), seat })
    }

    /// All who are present, in no order.
    pub fn all(&self) -> Vec<K> {
        lock(&self.inner.state).by_key.keys().cloned().collect()
    }

    /// Whether `key` is present.
    pub fn contains(&self, key: &K) -> bool {
        lock(&self.inner.state).by_key.contains_key(key)
    }
}

impl<K: PresenceKey> Clone for Presence<K> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<K: PresenceKey> fmt::Debug for Presence<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence").field("window", &self.inner.window).finish_non_exhaustive()
    }
}

// ===== impl Here =====

impl<K: PresenceKey> Drop for Here<K> {
    fn drop(&mut self) {
        let mut state = lock(&self.inner.state);
        let State { seats, leaving, .. } = &mut *state;
        let seat = seats.get_mut(self.seat);
        seat.requests -= 1;
        if seat.requests > 0 {
            return;
        }
        let now = Instant::now();
        seat.until = now.checked_add(self.inner.window).unwrap_or_else(|| now + FAR);
        seats.push_back(leaving, self.seat);
        drop(state);
        self.inner.drive();
    }
}

impl<K: PresenceKey> fmt::Debug for Here<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Here").finish_non_exhaustive()
    }
}

// ===== impl State =====

impl<K: PresenceKey> State<K> {
    fn join(&mut self, key: K) -> u32 {
        self.changes.push_back(PresenceChange::Joined(key.clone()));
        let seat = self.seats.insert(Seat { key: key.clone(), requests: 0, until: Instant::now() });
        self.by_key.insert(key, seat);
        seat
    }

    /// Shows those out whose windows have ended, or as many as a slice allows, and tells when the next one ends.
    fn show_out(&mut self) -> Option<Instant> {
        let now = Instant::now();
        for _ in 0..LEAVES_IN_SLICE {
            let front = self.leaving.front()?;
            if self.seats.get(front).until > now {
                break;
            }
            let seat = self.seats.remove(&mut self.leaving, front);
            self.by_key.remove(&seat.key);
            self.changes.push_back(PresenceChange::Left(seat.key));
        }
        self.leaving.front().map(|front| self.seats.get(front).until)
    }
}

// ===== impl Inner =====

impl<K: PresenceKey> Inner<K> {
    /// Sees to it that those who are leaving are looked after.
    fn drive(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        if state.driven || state.leaving.front().is_none() {
            return;
        }
        if let Some(runtime) = state.runtime.clone() {
            state.driven = true;
            drop(state);
            drive(self, &runtime);
        }
    }

    /// Tells the changes in the order in which they happened, with no lock held: one thread does it for all.
    fn tell(&self) {
        let mut state = lock(&self.state);
        while !state.telling {
            let Some(change) = state.changes.pop_front() else { return };
            state.telling = true;
            drop(state);
            let told = Told(self);
            (self.on_change)(change);
            drop(told);
            state = lock(&self.state);
        }
    }
}

/// Ends the telling also when it panics.
struct Told<'a, K>(&'a Inner<K>);

impl<K> Drop for Told<'_, K> {
    fn drop(&mut self) {
        lock(&self.0.state).telling = false;
    }
}

impl<K: PresenceKey> Driven for Inner<K> {
    fn step(&self) -> Option<Instant> {
        let mut state = lock(&self.state);
        let next = state.show_out();
        state.driven = next.is_some();
        drop(state);
        self.tell();
        next
    }

    fn abandoned(&self) {
        let mut state = lock(&self.state);
        state.driven = false;
        state.runtime = None;
    }
}

// ===== impl PresenceFull =====

impl fmt::Display for PresenceFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} are present already, as many as there may be: raise `present_max`", self.present_max)
    }
}

impl std::error::Error for PresenceFull {}

//! Topics found by name, and dropped when nobody uses them.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::Topic;
use super::settings::Settings;
use crate::waiting::{Driven, drive, lock};

/// Parts of the map, each with a lock of its own: so many are swept one after another that a sweep of 100,000 topics
/// never holds a loop or a lock for long.
const SHARDS: usize = 64;

/// A round over all shards takes this part of the age, so that a topic outlives its age by a quarter at most.
const ROUNDS_IN_AGE: u32 = 4;

/// Not more often than this is a shard swept, however short the age.
const SWEEP_PAUSE_MIN: Duration = Duration::from_millis(10);

/// Nor more seldom, however long the age: what is outdated in the histories goes too.
const SWEEP_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Topics by name, made by [`Builder::registry`](super::Builder::registry). Cheap to clone, used from any thread.
///
/// A topic of this registry is in use while someone holds a handle to it or waits for it, and for some time after. When
/// it goes, its history goes; should it be opened again that is a new life, and old cursors are
/// [told so](super::Gap::Unknown).
///
/// Unused topics are looked for by a task on the runtime in which one was opened; where none was opened inside a runtime,
/// by those who open one when the registry is full.
pub struct Topics<T> {
    registry: Arc<Registry<T>>,
}

/// There are as many topics as there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicsFull {
    topics_max: usize,
}

struct Registry<T> {
    settings: Arc<Settings<T>>,
    topics_max: usize,
    unused_age_max: Duration,
    count: AtomicUsize,
    shards: Box<[Mutex<Shard<T>>]>,
    hasher: RandomState,
    sweep: Mutex<Sweep>,
}

type Shard<T> = HashMap<Box<str>, Topic<T>>;

struct Sweep {
    next: usize,
    driven: bool,
}

// ===== impl Topics =====

impl<T: Send + Sync + 'static> Topics<T> {
    /// The topic called `name`, made if there is none.
    ///
    /// # Errors
    ///
    /// When it would be one more than there may be.
    pub fn open(&self, name: &str) -> Result<Topic<T>, TopicsFull> {
        let registry = &self.registry;
        let now = Instant::now();
        let mut gone = Vec::new();
        let mut shard = lock(registry.shard(name));
        if let Some(topic) = shard.get(name) {
            topic.mark_used(now);
            return Ok(topic.clone());
        }
        if !registry.count_one_more() {
            registry.sweep_shard(&mut shard, now, &mut gone);
            if !registry.count_one_more() {
                return Err(TopicsFull { topics_max: registry.topics_max });
            }
        }
        let topic = Topic::with(registry.settings.clone());
        shard.insert(name.into(), topic.clone());
        drop(shard);
        registry.drive();
        Ok(topic)
    }
}

impl<T> Topics<T> {
    pub(super) fn with(settings: Arc<Settings<T>>, topics_max: usize, unused_age_max: Duration) -> Self {
        let registry = Registry {
            settings,
            topics_max,
            unused_age_max,
            count: AtomicUsize::new(0),
            shards: (0..SHARDS).map(|_| Mutex::new(HashMap::new())).collect(),
            hasher: RandomState::new(),
            sweep: Mutex::new(Sweep { next: 0, driven: false }),
        };
        Self { registry: Arc::new(registry) }
    }

    /// The topic called `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<Topic<T>> {
        let shard = lock(self.registry.shard(name));
        let topic = shard.get(name)?;
        topic.mark_used(Instant::now());
        Some(topic.clone())
    }

    /// Takes the topic called `name` out. Who holds or waits for it keeps it; the next to open the name gets a new one.
    pub fn remove(&self, name: &str) -> Option<Topic<T>> {
        let topic = lock(self.registry.shard(name)).remove(name)?;
        self.registry.count.fetch_sub(1, Ordering::Relaxed);
        Some(topic)
    }

    /// How many topics there are.
    pub fn len(&self) -> usize {
        self.registry.count.load(Ordering::Relaxed)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Clone for Topics<T> {
    fn clone(&self) -> Self {
        Self { registry: self.registry.clone() }
    }
}

impl<T> fmt::Debug for Topics<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topics").field("len", &self.len()).field("topics_max", &self.registry.topics_max).finish()
    }
}

// ===== impl Registry =====

impl<T> Registry<T> {
    fn shard(&self, name: &str) -> &Mutex<Shard<T>> {
        // The map hashes with another key: the names of one shard do not all fall into the same bucket of it.
        let hash = self.hasher.hash_one(name) % SHARDS as u64;
        &self.shards[usize::try_from(hash).expect("less than the number of shards")]
    }

    fn count_one_more(&self) -> bool {
        let more = |count| (count < self.topics_max).then_some(count + 1);
        self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Takes out what nobody has used for too long. It is handed over, to be dropped when no lock is held.
    fn sweep_shard(&self, shard: &mut Shard<T>, now: Instant, gone: &mut Vec<Topic<T>>) {
        let before = shard.len();
        shard.retain(|_, topic| {
            // New handles come from other handles or from this map, which is locked: unused cannot turn into used here.
            let keep = !topic.is_unused(now, self.unused_age_max);
            if !keep {
                gone.push(topic.clone());
            }
            keep
        });
        self.count.fetch_sub(before - shard.len(), Ordering::Relaxed);
        if shard.len() < shard.capacity() / 4 {
            shard.shrink_to_fit();
        }
    }
}

impl<T: Send + Sync + 'static> Registry<T> {
    fn drive(self: &Arc<Self>) {
        let mut sweep = lock(&self.sweep);
        if sweep.driven {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            sweep.driven = true;
            drop(sweep);
            drive(self, &runtime);
        }
    }
}

impl<T: Send + Sync + 'static> Driven for Registry<T> {
    fn step(&self) -> Option<Instant> {
        let mut sweep = lock(&self.sweep);
        if self.count.load(Ordering::Relaxed) == 0 {
            sweep.driven = false;
            return None;
        }
        let next = sweep.next;
        sweep.next = (next + 1) % SHARDS;
        drop(sweep);

        let now = Instant::now();
        let mut gone = Vec::new();
        let mut shard = lock(&self.shards[next]);
        self.sweep_shard(&mut shard, now, &mut gone);
        shard.values().for_each(Topic::trim);
        drop(shard);
        drop(gone);
        let pause = self.unused_age_max / (ROUNDS_IN_AGE * SHARDS as u32);
        Some(now + pause.clamp(SWEEP_PAUSE_MIN, SWEEP_PAUSE_MAX))
    }

    fn abandoned(&self) {
        lock(&self.sweep).driven = false;
    }
}

// ===== impl TopicsFull =====

impl fmt::Display for TopicsFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there are {} topics already, as many as there may be: raise `topics_max`", self.topics_max)
    }
}

impl std::error::Error for TopicsFull {}

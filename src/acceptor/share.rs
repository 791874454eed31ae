//! What a worker has of its own, and in common with the others.

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::config::Config;
use super::stats::Counters;

/// What a worker serves with.
#[derive(Clone)]
pub(super) struct Share {
    pub(super) config: Arc<Config>,
    /// A permit for each connection that may still come.
    pub(super) room: Arc<Semaphore>,
    pub(super) counters: Arc<Counters>,
}

// ===== impl Share =====

impl Share {
    /// The first of so many workers'.
    pub(super) fn first(config: Config, workers: NonZeroUsize) -> Self {
        let room = Arc::new(Semaphore::new(config.max_connections.min(Semaphore::MAX_PERMITS)));
        let counters = config.stats.hire(workers)[0].clone();
        Self { config: Arc::new(config), room, counters }
    }

    /// Each worker's.
    pub(super) fn of_all(&self) -> Vec<Self> {
        let counters = self.config.stats.hired().iter();
        counters.map(|counters| Self { counters: counters.clone(), ..self.clone() }).collect()
    }

    /// Whether as many requests are parked as may be.
    pub(super) fn is_full(&self) -> bool {
        let max = self.config.max_parked;
        max < u64::MAX && self.config.stats.parked() >= max
    }
}

//! What a queue is made with.

use std::fmt;

use super::{DeadLetter, Queue};

/// Makes a [`Queue`].
#[must_use = "a builder makes nothing until it is told to build"]
pub struct Builder<T> {
    settings: Settings<T>,
}

pub(super) struct Settings<T> {
    pub(super) values_max: usize,
    pub(super) deliveries_max: u32,
    pub(super) dead_letter: Box<dyn Fn(DeadLetter<T>) + Send + Sync>,
}

// ===== impl Builder =====

impl<T: Send + 'static> Builder<T> {
    /// A queue that answers for at most `values_max` values: those that wait, those that are on their way to a client
    /// and those that are leased.
    pub fn new(values_max: usize) -> Self {
        let settings = Settings {
            values_max,
            // A worker that dies of a job gets some company, but not all of it.
            deliveries_max: 5,
            dead_letter: Box::new(|letter| {
                let deliveries = letter.deliveries;
                tracing::warn!(deliveries, "a value was leased too often without a confirmation, it is dropped");
            }),
        };
        Self { settings }
    }

    /// How often a value is [leased](Queue::lease) before it is given up; at least once. Five times unless set.
    pub fn deliveries_max(mut self, deliveries: u32) -> Self {
        self.settings.deliveries_max = deliveries.max(1);
        self
    }

    /// Where values go that were leased too often without a confirmation. Unless set they are dropped, with a warning.
    ///
    /// It runs on the thread that notices, with no lock held: it must be quick and must not panic.
    pub fn dead_letter(mut self, handler: impl Fn(DeadLetter<T>) + Send + Sync + 'static) -> Self {
        self.settings.dead_letter = Box::new(handler);
        self
    }

    /// The queue.
    pub fn build(self) -> Queue<T> {
        Queue::with(self.settings)
    }
}

impl<T> fmt::Debug for Builder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("values_max", &self.settings.values_max)
            .field("deliveries_max", &self.settings.deliveries_max)
            .finish_non_exhaustive()
    }
}

//! What a topic is made with.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Encode, Topic, Topics};

/// Makes topics that share their settings.
///
/// ```
/// use std::time::Duration;
/// use hyper_deferred::topic::{Builder, Raw};
///
/// let topic = Builder::<bytes::Bytes>::new(Raw)
///     .history_count_max(10_000)
///     .history_age_max(Duration::from_secs(60))
///     .build();
/// ```
#[must_use = "a builder makes nothing until it is told to build"]
pub struct Builder<T> {
    settings: Settings<T>,
}

/// Shared by all topics of one builder.
pub(super) struct Settings<T> {
    pub(super) encode: Box<dyn Encode<T>>,
    pub(super) history_count_max: usize,
    pub(super) history_bytes_max: usize,
    pub(super) history_age_max: Option<Duration>,
    pub(super) batch_count_max: usize,
    pub(super) batch_bytes_max: usize,
}

// ===== impl Builder =====

impl<T: Send + Sync + 'static> Builder<T> {
    /// Topics whose messages are encoded by `encode`.
    pub fn new(encode: impl Encode<T>) -> Self {
        let settings = Settings {
            encode: Box::new(encode),
            // Enough for a client that is away for a while, and little enough that many topics can have it.
            history_count_max: 1000,
            history_bytes_max: 1 << 20,
            history_age_max: Some(Duration::from_secs(300)),
            // What a client that was away gets at once, and what one response holds in memory.
            batch_count_max: 256,
            batch_bytes_max: 64 << 10,
        };
        Self { settings }
    }

    /// How many messages are kept for those who come back; at least one. 1,000 unless set.
    pub fn history_count_max(mut self, count: usize) -> Self {
        self.settings.history_count_max = count.max(1);
        self
    }

    /// How many bytes of encoded messages are kept, and so how large a single message may be. 1 MiB unless set.
    pub fn history_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.history_bytes_max = bytes;
        self
    }

    /// How long a message is kept; `None` for as long as there is room. Five minutes unless set.
    ///
    /// It is looked at when the topic is used, and for topics of a [registry](Topics) from time to time as well: until
    /// then an outdated message takes up memory, but nobody gets it.
    pub fn history_age_max(mut self, age: impl Into<Option<Duration>>) -> Self {
        self.settings.history_age_max = age.into();
        self
    }

    /// How many messages one answer carries; at least one. 256 unless set.
    pub fn batch_count_max(mut self, count: usize) -> Self {
        self.settings.batch_count_max = count.max(1);
        self
    }

    /// How many bytes of encoded messages one answer carries. A single message that is larger goes out alone. 64 KiB
    /// unless set.
    pub fn batch_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.batch_bytes_max = bytes;
        self
    }

    /// A topic of its own.
    pub fn build(self) -> Topic<T> {
        Topic::with(Arc::new(self.shared()))
    }

    /// Topics that are found by name: at most `topics_max` of them, each dropped when nobody has used it for
    /// `unused_age_max`.
    pub fn registry(self, topics_max: usize, unused_age_max: Duration) -> Topics<T> {
        Topics::with(Arc::new(self.shared()), topics_max, unused_age_max)
    }

    fn shared(self) -> Settings<T> {
        let mut settings = self.settings;
        settings.batch_count_max = settings.batch_count_max.min(settings.encode.join_count_max()).max(1);
        settings
    }
}

impl<T> fmt::Debug for Builder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("history_count_max", &self.settings.history_count_max)
            .field("history_bytes_max", &self.settings.history_bytes_max)
            .field("history_age_max", &self.settings.history_age_max)
            .field("batch_count_max", &self.settings.batch_count_max)
            .field("batch_bytes_max", &self.settings.batch_bytes_max)
            .finish_non_exhaustive()
    }
}

//! What a builder has settled, shared by its connections.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::rt::Timer;
use hyper::server::conn::http1;

use super::clock::{Clock, Elapsed};
use super::io::LEFTOVER_BYTES_MAX;
use super::notes::Notes;

/// What a connection waits for, each with a limit of its own. None runs while a request is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The first byte of the connection.
    FirstByte,
    /// The rest of a head that has begun.
    Head,
    /// The next request.
    Idle,
    /// The next request of a client that sends one after the other, with hyper at hand.
    Linger,
}

/// How soon the next request has to come for hyper to be kept at hand: a connection that has a hundred requests a second
/// is busy and not idle, and to rebuild hyper for each would be most of the work that it has. It is put away between
/// once and twice this time after the last request.
pub(crate) const LINGER: Duration = Duration::from_millis(10);

/// The settings of an HTTP/1 connection.
#[derive(Clone)]
pub(crate) struct Settings {
    /// hyper's own, without its timer: a deadline must outlive the hyper that is put away.
    pub(crate) hyper: http1::Builder,
    pub(crate) half_close: bool,
    pub(crate) clock: Clock,
    max_header_size: Option<usize>,
    header_read_timeout: Option<Duration>,
    first_byte_timeout: Option<Option<Duration>>,
    idle_timeout: Option<Option<Duration>>,
    hints: Arc<Hints>,
}

/// What connections have learned of their services. No order is needed.
#[derive(Debug, Default)]
struct Hints {
    /// Whether the last request that was the first of its connection had to wait.
    first_waited: AtomicBool,
    /// Whether a request that waited has ever kept the buffer that it was read into.
    keeps: AtomicBool,
}

/// hyper's default for the time that a client has for a request's head, and by default for the other two.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);

impl Settings {
    pub(crate) fn new() -> Self {
        let mut hyper = http1::Builder::new();
        hyper.header_read_timeout(None);
        Self {
            hyper,
            half_close: false,
            clock: Clock::Tokio,
            max_header_size: None,
            header_read_timeout: Some(HEADER_READ_TIMEOUT),
            first_byte_timeout: None,
            idle_timeout: None,
            hints: Arc::default(),
        }
    }

    pub(crate) fn set_max_header_size(&mut self, max: usize) {
        self.max_header_size = Some(max);
        self.hyper.max_header_size(max);
    }

    /// The length from which hyper looks at a head that is not whole.
    pub(crate) fn unparsed_bytes_max(&self) -> usize {
        self.max_header_size.map_or(LEFTOVER_BYTES_MAX, |max| max.min(LEFTOVER_BYTES_MAX))
    }

    pub(crate) fn set_timeout(&mut self, wait: Wait, timeout: Option<Duration>) {
        match wait {
            Wait::FirstByte => self.first_byte_timeout = Some(timeout),
            Wait::Head => self.header_read_timeout = timeout,
            Wait::Idle => self.idle_timeout = Some(timeout),
            Wait::Linger => {}
        }
    }

    pub(crate) fn set_timer(&mut self, timer: Arc<dyn Timer + Send + Sync>) {
        self.clock = Clock::Given(timer);
    }

    /// The limit of a wait. Those for the first byte and between requests are the head's unless set, as in hyper.
    #[inline]
    pub(crate) fn timeout(&self, wait: Wait) -> Option<Duration> {
        match wait {
            Wait::FirstByte => self.first_byte_timeout.unwrap_or(self.header_read_timeout),
            Wait::Head => self.header_read_timeout,
            Wait::Idle => self.idle_timeout.unwrap_or(self.header_read_timeout),
            Wait::Linger => Some(LINGER),
        }
    }

    /// The limit of a wait, or longer than anybody waits.
    pub(crate) fn limit(&self, wait: Wait) -> Duration {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        self.timeout(wait).unwrap_or(YEAR)
    }

    /// Whether the next request of a connection is likely to wait for its answer: the last one has, or there was none
    /// and the last first one of another connection has.
    #[inline]
    pub(crate) fn expects_wait(&self, notes: Notes) -> bool {
        notes.waited.unwrap_or_else(|| self.hints.first_waited.load(Ordering::Relaxed))
    }

    /// Whether services keep what a request was read into. That does not show where hyper does not read while one waits.
    #[inline]
    pub(crate) fn expects_kept(&self) -> bool {
        self.half_close || self.hints.keeps.load(Ordering::Relaxed)
    }

    /// Remembers that one has.
    pub(crate) fn expect_kept(&self) {
        self.hints.keeps.store(true, Ordering::Relaxed);
    }

    /// Remembers whether the first request of a connection had to wait.
    pub(crate) fn expect_wait(&self, waited: bool) {
        // Hardly ever does it change, and to write it would take it from the other threads' caches.
        if waited != self.hints.first_waited.load(Ordering::Relaxed) {
            self.hints.first_waited.store(waited, Ordering::Relaxed);
        }
    }

    /// hyper's builder for a connection that must end with the request in hand.
    pub(crate) fn last_request(&self) -> http1::Builder {
        let mut hyper = self.hyper.clone();
        hyper.keep_alive(false);
        hyper
    }

    /// hyper's builder for a connection that has waited for too long.
    pub(crate) fn timed_out(&self) -> http1::Builder {
        let mut hyper = self.hyper.clone();
        hyper.timer(Elapsed).header_read_timeout(Duration::ZERO);
        hyper
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("hyper", &self.hyper)
            .field("half_close", &self.half_close)
            .field("first_byte_timeout", &self.timeout(Wait::FirstByte))
            .field("header_read_timeout", &self.timeout(Wait::Head))
            .field("idle_timeout", &self.timeout(Wait::Idle))
            .finish_non_exhaustive()
    }
}

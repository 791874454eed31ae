//! What a user has set.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;

use super::panics::log_panic;
use super::service::service_unavailable;
use super::stats::Stats;
use super::watched;
use crate::server::conn::settings::Settings;

/// How long a shutdown waits for what is active unless set: long enough for a slow
/// response, and well within the 30 seconds that Kubernetes leaves and the 90 of systemd before they kill a process.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes what a parked request is answered at shutdown.
pub(super) type ShutdownResponse = Arc<dyn Fn() -> Response<Bytes> + Send + Sync>;

/// What a user has set.
pub(super) struct Config {
    pub(super) settings: Arc<Settings>,
    pub(super) max_connections: usize,
    pub(super) max_parked: u64,
    pub(super) peer_addr: bool,
    pub(super) shutdown_timeout: Duration,
    pub(super) shutdown_response: ShutdownResponse,
    #[cfg(feature = "context")]
    pub(super) watchdog: Option<crate::watchdog::Watchdog>,
    pub(super) stats: Stats,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            settings: Arc::new(Settings::new()),
            max_connections: usize::MAX,
            max_parked: u64::MAX,
            peer_addr: true,
            shutdown_timeout: SHUTDOWN_TIMEOUT,
            shutdown_response: Arc::new(service_unavailable),
            #[cfg(feature = "context")]
            watchdog: None,
            stats: Stats::default(),
        }
    }
}

impl Config {
    /// A panic in `make` is no reason not to answer.
    pub(super) fn set_shutdown_response(&mut self, make: impl Fn() -> Response<Bytes> + Send + Sync + 'static) {
        self.shutdown_response = Arc::new(move || {
            catch_unwind(AssertUnwindSafe(&make)).unwrap_or_else(|panic| {
                log_panic(&*panic, "what makes the shutdown's response panicked, a client gets 503");
                service_unavailable()
            })
        });
    }

    /// Has the loop of this thread watched until what it returns is dropped, if the user wants that.
    pub(super) fn watched(&self) -> watched::Watched {
        #[cfg(feature = "context")]
        return watched::Watched::begin(self.watchdog.as_ref(), self.stats.watched());
        #[cfg(not(feature = "context"))]
        watched::Watched
    }
}

//! What can be set, and the bounds that hold unless something else is.

use std::time::Duration;

/// See the builder's methods of the same names.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) deadline: Duration,
    pub(super) retries_max: u32,
    pub(super) queue_max: usize,
    pub(super) wait_max: Duration,
    pub(super) retry_after: Duration,
    pub(super) heartbeat: Duration,
    pub(super) frame_bytes_max: usize,
    pub(super) request_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // As long as common proxies wait for an upstream at most.
            deadline: Duration::from_secs(60),
            // Three workers lost over one job: it is more likely the job's fault than theirs.
            retries_max: 2,
            // A burst fits; at a job each 10 ms of 10 workers the last one is served within a second.
            queue_max: 1024,
            // Within what browsers and proxies wait.
            wait_max: Duration::from_secs(30),
            retry_after: Duration::from_secs(1),
            heartbeat: Duration::from_secs(1),
            // A reply or a part of one is held whole in memory.
            frame_bytes_max: 8 * 1024 * 1024,
            request_bytes_max: 1024 * 1024,
        }
    }
}

/// A worker that was silent for so many heartbeats gets no more jobs, and when it has none in hand it is gone.
pub(super) const SILENT_HEARTBEATS_MAX: u32 = 3;

/// How many workers are known at once: each takes a descriptor, of which a process has thousands, and is sent a `PING` at
/// each heartbeat.
pub(super) const WORKERS_MAX: usize = 4096;

/// How many jobs a worker may take at once. A larger number in its `READY` means this one.
pub(super) const JOBS_PER_WORKER_MAX: usize = 1024;

/// How many parts of a streamed reply may be on their way to a client that does not take them.
pub(super) const PARTS_AHEAD_MAX: usize = 8;

/// Messages that wait inside libzmq for each peer, each way. Those that come in may be as long as a frame may be, so
/// that there are few; what goes out are jobs and pings, of which a worker that reads has few waiting.
pub(super) const RECEIVE_HIGH_WATER: i32 = 64;
pub(super) const SEND_HIGH_WATER: i32 = 2048;

/// How long a closed socket goes on to deliver what was sent.
pub(super) const LINGER_MS: i32 = 1000;

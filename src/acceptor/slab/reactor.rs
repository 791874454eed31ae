//! tokio's watch over a descriptor.

use std::io;
use std::os::fd::AsRawFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Has tokio watch `inner`, which must keep its descriptor open until it is dropped.
///
/// Both that are watched do: the worker's poll owns its own, and a stream drops the watch before its socket.
#[allow(
    deprecated,
    reason = "its successor is an unsafe function, and says by that what the comment above does; this crate has no \
              other need of unsafe code"
)]
pub(super) fn watch<T: AsRawFd>(inner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(inner, interest)
}

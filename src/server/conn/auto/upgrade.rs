//! The IO of an upgraded connection.

use bytes::Bytes;
use hyper::rt::{Read, Write};
use hyper::upgrade::Upgraded;

use super::super::io::{Io, Replay};

/// What an upgraded connection was made of.
#[derive(Debug)]
#[non_exhaustive]
pub struct Parts<T> {
    /// The IO as it was given to the builder.
    pub io: T,
    /// Bytes of the new protocol that were read already: look here before reading on.
    pub read_buf: Bytes,
}

/// Finds the IO in an [`Upgraded`] that comes from one of this crate's builders, [`auto`](super) or
/// [`http1`](super::super::http1), which have it wrapped. [`Upgraded::downcast`] would look for the wrapper.
///
/// # Errors
///
/// Gives the [`Upgraded`] back when its IO is not a `T`.
pub fn downcast<T>(upgraded: Upgraded) -> Result<Parts<T>, Upgraded>
where
    T: Read + Write + Unpin + 'static,
{
    let hyper::upgrade::Parts { io, read_buf, .. } = upgraded.downcast::<Io<T>>()?;
    let (io, Replay { leftover, .. }) = io.into_parts(&read_buf);
    Ok(Parts { io, read_buf: Bytes::from(leftover) })
}

//! A connection without hyper.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use hyper::body::Incoming;
use hyper::rt::Read;
use hyper::service::HttpService;

use super::head::Head;
use super::io::{End, LEFTOVER_BYTES_MAX, poll_ahead, poll_some};
use super::notes::Notes;
use super::settings::Settings;
use crate::BoxError;

/// What is left of a connection while it waits: no buffer, no parser, and no task of its own.
///
/// Dropping it closes the connection and ends a parked request without an answer.
pub(crate) struct Dormant<I, S: HttpService<Incoming>> {
    pub(crate) io: I,
    pub(crate) service: S,
    pub(crate) parked: Option<Parked<S::Future>>,
    // Bytes of the client that are read and not used.
    pub(crate) leftover: Box<[u8]>,
    // How many of these hyper would have read by now.
    pub(crate) seen: usize,
    pub(crate) notes: Notes,
}

/// A request that waits.
pub(crate) struct Parked<F> {
    pub(crate) future: Pin<Box<F>>,
    pub(crate) head: Head,
}

/// Why a dormant connection needs hyper again.
pub(crate) enum Wake<B> {
    /// The service has answered.
    Answer(Result<Response<B>, BoxError>),
    /// The client has sent something; it is in `leftover`.
    Readable,
    /// hyper is to read on by itself: what has come is not in `leftover`.
    #[cfg_attr(not(unix), allow(dead_code, reason = "only a slab has IO that knows what has come"))]
    Unread,
    /// The client has gone, or the IO has failed.
    End(End),
    /// The client has kept the connection waiting for too long.
    Deadline,
    /// The connection shall close.
    Shutdown,
}

impl<I, S> Dormant<I, S>
where
    I: Read + Unpin,
    S: HttpService<Incoming>,
{
    pub(crate) fn new(io: I, service: S) -> Self {
        Self { io, service, parked: None, leftover: Box::default(), seen: 0, notes: Notes::default() }
    }

    /// Waits for the client or the service. The client is looked at first, as hyper does it: who has left gets no
    /// answer.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, settings: &Settings) -> Poll<Wake<S::ResBody>> {
        if let Poll::Ready(wake) = self.poll_client(cx, settings) {
            return Poll::Ready(wake);
        }
        self.poll_service(cx)
    }

    /// Looks at the client alone.
    pub(crate) fn poll_client(&mut self, cx: &mut Context<'_>, settings: &Settings) -> Poll<Wake<S::ResBody>> {
        if self.parked.is_none() {
            self.edit_leftover(|io, leftover, seen| poll_head(io, cx, leftover, seen, settings.unparsed_bytes_max()))
        } else if settings.half_close {
            Poll::Pending
        } else {
            self.edit_leftover(|io, leftover, seen| poll_end(io, cx, leftover, seen)).map(Wake::End)
        }
    }

    fn edit_leftover<R>(&mut self, edit: impl FnOnce(&mut I, &mut Vec<u8>, &mut usize) -> R) -> R {
        let mut leftover = std::mem::take(&mut self.leftover).into_vec();
        let result = edit(&mut self.io, &mut leftover, &mut self.seen);
        self.leftover = leftover.into_boxed_slice();
        result
    }

    fn poll_service(&mut self, cx: &mut Context<'_>) -> Poll<Wake<S::ResBody>> {
        match &mut self.parked {
            Some(parked) => parked.future.as_mut().poll(cx).map(|output| Wake::Answer(output.map_err(Into::into))),
            None => Poll::Pending,
        }
    }
}

/// Waits for a head, or for that which has begun to be whole: hyper parses no more often. A head as long as
/// `bytes_max` is hyper's to refuse.
fn poll_head<I: Read + Unpin, B>(
    io: &mut I,
    cx: &mut Context<'_>,
    leftover: &mut Vec<u8>,
    seen: &mut usize,
    bytes_max: usize,
) -> Poll<Wake<B>> {
    loop {
        let before = leftover.len();
        if before >= LEFTOVER_BYTES_MAX {
            // There is no room to read more, and that is not its end.
            return Poll::Ready(Wake::Readable);
        }
        if let Some(end) = ready!(poll_some(io, cx, leftover)) {
            return Poll::Ready(Wake::End(end));
        }
        if before == 0 {
            *seen = leftover.len();
            return Poll::Ready(Wake::Readable);
        }
        if leftover.len() >= bytes_max || has_blank_line(leftover, before) {
            return Poll::Ready(Wake::Readable);
        }
    }
}

/// Waits for the client to leave, behind all that it sends.
fn poll_end<I: Read + Unpin>(io: &mut I, cx: &mut Context<'_>, leftover: &mut Vec<u8>, seen: &mut usize) -> Poll<End> {
    if *seen == 0 {
        // hyper reads once and, when that has given it something, no more.
        if let Some(end) = ready!(poll_some(io, cx, leftover)) {
            return Poll::Ready(end);
        }
        *seen = leftover.len();
    }
    poll_ahead(io, cx, leftover).map_or(Poll::Pending, Poll::Ready)
}

/// Whether a blank line ends in `bytes` after `from`, as hyper 1.12 looks for the end of a head.
fn has_blank_line(bytes: &[u8], from: usize) -> bool {
    let bytes = &bytes[from.saturating_sub(3)..];
    (0..bytes.len()).any(|at| {
        let rest = &bytes[at..];
        rest.starts_with(b"\r\n\r\n") || rest.starts_with(b"\n\n") || rest.starts_with(b"\n\r\n")
    })
}

/// How many of the `bytes` of a head that is not whole hyper has parsed: those that it had `first`, or all if there was
/// a blank line behind them. Where that is unknown it is one byte, with which nothing is wrong if there is with none.
pub(crate) fn parsed_len(bytes: &[u8], first: Option<usize>) -> usize {
    match first {
        Some(first) if first <= bytes.len() && !has_blank_line(bytes, first) => first,
        Some(_) => bytes.len(),
        None => bytes.len().min(1),
    }
}

/// Whether no head in `bytes` has a `content-length`, so that a chunked request among them has none beside its
/// `transfer-encoding`. A body that looks like one is no harm: its request stays active.
pub(crate) fn is_plain(bytes: &[u8]) -> bool {
    const NAME: &[u8] = b"content-length";
    // Only requests with a body are worth the search.
    !bytes.starts_with(b"GET ")
        && !bytes
            .split(|byte| *byte == b'\n')
            .any(|line| line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME))
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Shared, Socket, Stateless, assert_send};
    use super::*;

    // What a waiting connection costs: growth is seen in review.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn its_size_is_known() {
        assert_eq!(size_of::<Dormant<Socket, Stateless>>(), 88);
        assert_eq!(size_of::<Dormant<Socket, Shared>>(), 96);
    }

    #[test]
    fn it_is_send_when_its_parts_are() {
        assert_send::<Dormant<Socket, Stateless>>();
        assert_send::<Dormant<Socket, Shared>>();
    }
}

//! Server-sent events (WHATWG HTML, section 9.2).

use std::fmt::Display;
use std::io::Write;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Response};

use super::super::{Batch, Cursor, Gap, Subscriber};
use super::NO_STORE;
use super::builder::{Present, Shared};
use super::negotiate::EVENT_STREAM;
use crate::draining::is_draining;
use crate::timer::Alarm;
use crate::waiting::Deadline;

/// The name of the event that tells a gap.
pub(super) const GAP_EVENT: &str = "gap";

/// A comment: nobody reads it, and the connection is not idle.
pub(super) const HEARTBEAT: &[u8] = b":\n\n";

// nginx collects a response before it passes it on, unless told not to.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A topic as a stream of events.
///
/// A client that does not read is not written to, and costs nothing but its place: when it reads again it gets what is
/// kept, and is told what has left.
pub(super) struct Events<T> {
    subscriber: Subscriber<T>,
    shared: Arc<Shared<T>>,
    heartbeat: Deadline,
    // Goes out before anything else.
    first: Option<Bytes>,
    _here: Option<Present>,
}

/// The response that streams `body`.
pub(super) fn stream<B>(body: B) -> Response<B> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// How long to stay away, and where to go on should the stream end before the first message: an id without data moves
/// the browser's last event id and is no event.
pub(super) fn greeting<T>(shared: &Shared<T>, cursor: &impl Display) -> Bytes {
    format!("retry: {}\nid: {cursor}\n\n", shared.retry.as_millis()).into()
}

// ===== impl Events =====

impl<T> Events<T> {
    /// Begins where `subscriber` stands.
    pub(super) fn new(shared: &Arc<Shared<T>>, subscriber: Subscriber<T>, here: Option<Present>) -> Self {
        Self {
            heartbeat: Deadline::new(Alarm::after(shared.heartbeat)),
            shared: shared.clone(),
            first: Some(greeting(shared, &subscriber.cursor())),
            subscriber,
            _here: here,
        }
    }
}

impl<T: 'static> Events<T> {
    /// The next bytes; `None` when the server is about to end and there is nothing left to tell.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        if let Poll::Ready(batch) = self.subscriber.poll_next(cx) {
            let events = batch.events(write_events);
            return match gap_event(&batch) {
                None => Poll::Ready(Some(events)),
                Some(gap) => {
                    // An empty frame would end the body's chunks.
                    self.first = Some(events).filter(|events| !events.is_empty());
                    Poll::Ready(Some(gap))
                }
            };
        }
        if is_draining() {
            return Poll::Ready(None);
        }
        if self.heartbeat.poll(cx).is_ready() {
            self.heartbeat.rearm(Alarm::after(self.shared.heartbeat));
            return Poll::Ready(Some(Bytes::from_static(HEARTBEAT)));
        }
        Poll::Pending
    }
}

/// What is missing before the batch, as an event. Its id is the place where the batch begins: that the gap was told
/// is known from then on.
fn gap_event<T>(batch: &Batch<T>) -> Option<Bytes> {
    let missed = match batch.gap() {
        Gap::None => return None,
        Gap::Missed(count) => format!("{{\"missed\":{count}}}"),
        Gap::Unknown => "{\"missed\":null}".to_owned(),
    };
    let begins = batch.begins();
    Some(format!("id: {begins}\nevent: {GAP_EVENT}\ndata: {missed}\n\n").into())
}

fn write_events<T: 'static>(batch: &Batch<T>) -> Bytes {
    let mut out = Vec::new();
    for (message, seq) in batch.messages().iter().zip(batch.begins().seq + 1..) {
        let cursor = Cursor { seq, ..batch.begins() };
        write_event(&mut out, &cursor, batch.event(message), message.encoded());
    }
    out.into()
}

pub(super) fn write_event(out: &mut Vec<u8>, cursor: &impl Display, event: Option<&str>, data: &[u8]) {
    writeln!(out, "id: {cursor}").expect("a vector takes all");
    if let Some(event) = event {
        // A name ends with its line.
        let event = event.lines().next().unwrap_or_default();
        let event = event.split('\r').next().unwrap_or_default();
        writeln!(out, "event: {event}").expect("a vector takes all");
    }
    for line in lines(data) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
}

/// The lines of `data`, which end with CR LF, LF or CR as those of an event stream do; at least one.
fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else { return rest.take() };
        let ending = if text[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = Some(&text[end + ending..]);
        Some(&text[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Topic;

    fn written(event: Option<&str>, data: &str) -> String {
        let mut out = Vec::new();
        write_event(&mut out, &Topic::raw().latest(), event, data.as_bytes());
        let text = String::from_utf8(out).unwrap();
        text.split_once('\n').unwrap().1.to_owned()
    }

    #[test]
    fn each_line_of_the_data_has_a_field_of_its_own() {
        assert_eq!(written(None, "one"), "data: one\n\n");
        assert_eq!(written(None, "a\nb\r\nc\rd"), "data: a\ndata: b\ndata: c\ndata: d\n\n");
        assert_eq!(written(None, "a\n"), "data: a\ndata: \n\n");
        assert_eq!(written(None, ""), "data: \n\n");
        assert_eq!(written(None, "\r\r\n"), "data: \ndata: \ndata: \n\n");
    }

    #[test]
    fn a_name_cannot_smuggle_a_field() {
        assert_eq!(written(Some("joined"), "x"), "event: joined\ndata: x\n\n");
        assert_eq!(written(Some("a\ndata: evil"), "x"), "event: a\ndata: x\n\n");
        assert_eq!(written(Some("a\rdata: evil"), "x"), "event: a\ndata: x\n\n");
    }
}

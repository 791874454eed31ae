//! Several topics as one stream of server-sent events.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::super::{Cursor, CursorSet, Gap, ManyBatch, WaitingMany};
use super::builder::{Present, Shared};
use super::names::{Missed, Names, json};
use super::sse;
use crate::draining::is_draining;
use crate::timer::Alarm;
use crate::waiting::Deadline;

/// Topics as a stream of events.
pub(super) struct Events<T> {
    names: Names,
    waiting: WaitingMany<T>,
    // What has been told until now.
    told: Vec<Cursor>,
    shared: Arc<Shared<T>>,
    heartbeat: Deadline,
    // Goes out before anything else.
    first: Option<Bytes>,
    _here: Option<Present>,
}

// ===== impl Events =====

impl<T> Events<T> {
    /// Begins where `waiting` stands.
    pub(super) fn new(shared: &Arc<Shared<T>>, names: Names, waiting: WaitingMany<T>, here: Option<Present>) -> Self {
        let cursors = waiting.cursors();
        Self {
            names,
            waiting,
            first: Some(sse::greeting(shared, &cursors)),
            told: cursors.cursors().to_vec(),
            shared: shared.clone(),
            heartbeat: Deadline::new(Alarm::after(shared.heartbeat)),
            _here: here,
        }
    }
}

impl<T: 'static> Events<T> {
    /// As that of [`sse::Events`].
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        if let Poll::Ready(news) = Pin::new(&mut self.waiting).poll(cx) {
            return Poll::Ready(Some(self.write(&news)));
        }
        if is_draining() {
            return Poll::Ready(None);
        }
        self.heartbeat.poll(cx).map(|()| {
            self.heartbeat.rearm(Alarm::after(self.shared.heartbeat));
            Some(Bytes::from_static(sse::HEARTBEAT))
        })
    }

    fn write(&mut self, news: &ManyBatch<T>) -> Bytes {
        let mut out = Vec::new();
        for (n, batch) in &news.batches {
            let topic = self.names.get(*n);
            if batch.gap() != Gap::None {
                self.told[*n] = batch.begins();
                let (id, missed) = (self.id(), Missed(batch.gap()).to_string());
                let data = format!("{{\"topic\":{topic},{}}}", missed.trim_end_matches(','));
                sse::write_event(&mut out, &id, Some(sse::GAP_EVENT), data.as_bytes());
            }
            for (message, seq) in batch.messages().iter().zip(batch.begins().seq + 1..) {
                self.told[*n] = Cursor { seq, ..batch.begins() };
                let data = format!("{{\"topic\":{topic},\"message\":{}}}", json(batch, message.encoded()));
                sse::write_event(&mut out, &self.id(), batch.event(message), data.as_bytes());
            }
        }
        out.into()
    }

    fn id(&self) -> CursorSet {
        self.told.iter().copied().collect()
    }
}

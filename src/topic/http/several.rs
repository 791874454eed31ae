//! Several topics in one request: one answer, one combined cursor.
//!
//! Which topics go together differs from client to client, so that an answer is put together for each. It is JSON, which
//! says what comes from where; the messages in it were encoded once.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::super::{Batch, Cursor, CursorSet, Gap, ManyBatch, Topic, WaitingMany};
use super::builder::{Present, Shared};
use super::negotiate::{self, Speaks, Start};
use super::{NO_STORE, Refusal, ResponseFuture, TopicBody, long_poll, sse, tell_gap};
use crate::draining::is_draining;
use crate::timer::Alarm;
use crate::waiting::Deadline;

/// The media type of an answer to a long poll.
const JSON: HeaderValue = HeaderValue::from_static("application/json");

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

/// What the topics are called, as JSON.
struct Names(Vec<String>);

/// Looks at a request for `topics`, and parks it.
pub(super) fn read<T: Send + Sync + 'static>(
    shared: &Arc<Shared<T>>,
    parts: &Parts,
    topics: Vec<(String, Topic<T>)>,
) -> Result<ResponseFuture<T>, Refusal> {
    let speaks = negotiate::accept(&parts.headers, &JSON)?;
    let (names, topics): (Vec<String>, Vec<Topic<T>>) = topics.into_iter().unzip();
    if topics.is_empty() {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "the request names no topic: name one at least"));
    }
    let cursors: CursorSet = match negotiate::start(parts)? {
        Start::Latest => topics.iter().map(Topic::latest).collect(),
        Start::Oldest => topics.iter().map(Topic::oldest).collect(),
        Start::After(cursors) => cursors,
    };
    let waiting = Topic::poll_many(&topics, &cursors).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error))?;
    let here = (shared.enter)(parts)?;
    let names = Names(names.into_iter().map(|name| serde_json::Value::from(name).to_string()).collect());
    if speaks == Speaks::Events && parts.method == Method::GET {
        return Ok(ResponseFuture::ready(events(shared, names, waiting, here)));
    }
    let (wait, asked) = shared.wait_of(parts);
    let deadline = (!wait.is_zero()).then(|| Deadline::new(Alarm::after(wait)));
    Ok(ResponseFuture::boxed(Box::pin(async move {
        let _here = here;
        let mut response = long_poll(&names, waiting, deadline).await;
        long_poll::tell_wait(response.headers_mut(), asked);
        response
    })))
}

// ===== long polling =====

async fn long_poll<T: 'static>(
    names: &Names,
    mut waiting: WaitingMany<T>,
    mut deadline: Option<Deadline>,
) -> Response<Bytes> {
    let news = poll_fn(|cx| match (Pin::new(&mut waiting).poll(cx), &mut deadline) {
        (Poll::Ready(news), _) => Poll::Ready(Some(news)),
        (Poll::Pending, Some(deadline)) => deadline.poll(cx).map(|()| None),
        (Poll::Pending, None) => Poll::Ready(None),
    });
    let Some(news) = news.await else {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        *response.headers_mut() = headers(&waiting.cursors());
        return response;
    };
    let mut response = Response::new(names.write(&news));
    *response.headers_mut() = headers(&news.next);
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    tell_gap(response.headers_mut(), gap(&news));
    response
}

fn headers(next: &CursorSet) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    let tag =
        HeaderValue::try_from(format!("\"{next}\"")).expect("cursors are made of letters, digits, dots and tildes");
    headers.insert(ETAG, tag);
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers
}

/// What is missing from all topics together.
fn gap<T>(news: &ManyBatch<T>) -> Gap {
    news.batches.iter().fold(Gap::None, |all, (_, batch)| match (all, batch.gap()) {
        (Gap::Unknown, _) | (_, Gap::Unknown) => Gap::Unknown,
        (Gap::Missed(one), Gap::Missed(other)) => Gap::Missed(one + other),
        (Gap::None, gap) | (gap, Gap::None) => gap,
    })
}

impl Names {
    fn write<T: 'static>(&self, news: &ManyBatch<T>) -> Bytes {
        let topics = news.batches.iter().map(|(n, batch)| {
            let messages: Vec<String> = batch.messages().iter().map(|message| json(batch, message.encoded())).collect();
            let (topic, missed, messages) = (&self.0[*n], Missed(batch.gap()), messages.join(","));
            format!("{{\"topic\":{topic},{missed}\"messages\":[{messages}]}}")
        });
        format!("[{}]", topics.collect::<Vec<_>>().join(",")).into()
    }
}

/// A message as JSON: as it is, if it is; else the text that it is taken for.
fn json<T: 'static>(batch: &Batch<T>, encoded: &Bytes) -> String {
    let text = String::from_utf8_lossy(encoded);
    if batch.is_json() { text.into_owned() } else { serde_json::Value::from(text).to_string() }
}

/// The member of an object that tells a gap, if there is one.
struct Missed(Gap);

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Gap::None => Ok(()),
            Gap::Missed(count) => write!(f, "\"missed\":{count},"),
            Gap::Unknown => f.write_str("\"missed\":null,"),
        }
    }
}

// ===== server-sent events =====

fn events<T>(
    shared: &Arc<Shared<T>>,
    names: Names,
    waiting: WaitingMany<T>,
    here: Option<Present>,
) -> Response<TopicBody<T>> {
    let cursors = waiting.cursors();
    let events = Events {
        names,
        waiting,
        first: Some(sse::greeting(shared, &cursors)),
        told: cursors.cursors().to_vec(),
        shared: shared.clone(),
        heartbeat: Deadline::new(Alarm::after(shared.heartbeat)),
        _here: here,
    };
    sse::stream(TopicBody::several(events))
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
            let topic = &self.names.0[*n];
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

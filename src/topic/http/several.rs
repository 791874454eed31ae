//! Several topics in one request: one answer, one combined cursor.
//!
//! Which topics go together differs from client to client, so that an answer is put together for each. It is JSON, which
//! says what comes from where; the messages in it were encoded once.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::super::{CursorSet, Gap, ManyBatch, Topic, WaitingMany};
use super::body::TopicBody;
use super::builder::Shared;
use super::long_poll::{self, ResponseFuture};
use super::names::Names;
use super::negotiate::{self, Speaks, Start};
use super::refusal::Refusal;
use super::{NO_STORE, sse, sse_several, tell_gap};
use crate::timer::Alarm;
use crate::waiting::Deadline;

/// The media type of an answer to a long poll.
const JSON: HeaderValue = HeaderValue::from_static("application/json");

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
    let names = Names::new(names);
    if speaks == Speaks::Events && parts.method == Method::GET {
        let events = sse_several::Events::new(shared, names, waiting, here);
        return Ok(ResponseFuture::ready(sse::stream(TopicBody::several(events))));
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

// ===== helpers =====

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

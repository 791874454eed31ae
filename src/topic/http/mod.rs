//! A topic over HTTP: long polling and server-sent events at one URL.
//!
//! A [`TopicService`] is an ordinary hyper and tower service. What it answers:
//!
//! | request | answer |
//! |---|---|
//! | `GET`, news behind the cursor | `200`, the messages, `ETag` with the cursor to go on with |
//! | `GET`, no news until the time is up | `204`, `ETag` with the cursor |
//! | `GET`, messages have left the history | the same, with `Topic-Missed: <how many>`, or `unknown` after a restart |
//! | `GET` with `Accept: text/event-stream` | `200`, server-sent events, each with the cursor as its `id` |
//! | `HEAD` | as `GET`, at once |
//! | `POST`, when [allowed](Builder::publish) | `200`, `{"cursor":"…","waiting":…}` |
//! | a cursor that is none | `400` |
//!
//! The cursor comes in `If-None-Match` (or `Last-Event-ID`) or in the query as `?since=`; a header wins, because it is
//! newer than the URL. `since` may also be `latest`, as if it was not given, or `oldest`, for all that is kept. `Prefer:
//! wait=N` (RFC 7240 section 4.3) says how many seconds to wait; `0` does not wait at all.
//!
//! A service made with `Builder::find_several`, which needs the feature `json`, answers several topics together, in JSON
//! that says what comes from where, with one combined cursor.
//!
//! ```
//! use hyper_deferred::Topic;
//! use hyper_deferred::topic::http::{Builder, Refusal};
//!
//! let topic = Topic::raw();
//! let service = Builder::new(topic)
//!     .authorize(|request| match request.headers.contains_key("authorization") {
//!         true => Ok(()),
//!         false => Err(Refusal::new(http::StatusCode::UNAUTHORIZED, "sign in first")),
//!     })
//!     .build();
//! ```

mod body;
mod builder;
mod long_poll;
#[cfg(feature = "json")]
mod names;
mod negotiate;
mod publish;
mod refusal;
#[cfg(feature = "json")]
mod several;
mod sse;
#[cfg(feature = "json")]
mod sse_several;

pub use body::TopicBody;
pub use builder::Builder;
pub use long_poll::ResponseFuture;
pub use refusal::Refusal;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{ALLOW, CACHE_CONTROL, ETAG};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;

use super::cursor::CURSOR_BYTES_MAX;
use super::{Cursor, Gap, Topic};
use crate::BoxError;
use builder::{Find, Shared};
use long_poll::LongPoll;
use negotiate::{Speaks, Start};

/// The name of the header that tells a gap: how many messages the client has missed, or `unknown`.
pub const TOPIC_MISSED: HeaderName = HeaderName::from_static("topic-missed");

/// Serves topics over HTTP. Cheap to clone, used from any thread.
pub struct TopicService<T> {
    shared: Arc<Shared<T>>,
}

// ===== impl TopicService =====

impl<T: Send + Sync + 'static> TopicService<T> {
    /// Serves `topic` with the settings that a [`Builder`] begins with.
    pub fn new(topic: Topic<T>) -> Self {
        Builder::new(topic).build()
    }

    fn respond<B>(&self, request: Request<B>) -> ResponseFuture<T>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let answer = match parts.method {
            Method::GET | Method::HEAD => self.read(&parts),
            Method::POST => publish::publish(&self.shared, parts, body),
            _ => Err(method_not_allowed(&self.shared)),
        };
        // From here on nothing of the request is kept: its bytes would hold the connection's whole buffer.
        answer.unwrap_or_else(|refusal| ResponseFuture::ready(refusal.into_response().map(TopicBody::full)))
    }

    /// Everything that a request says is looked at before it is parked.
    fn read(&self, parts: &Parts) -> Result<ResponseFuture<T>, Refusal> {
        let shared = &self.shared;
        (shared.authorize)(parts)?;
        let topic = match &shared.find {
            Find::One(find) => find(parts)?,
            #[cfg(feature = "json")]
            Find::Several(find) => return several::read(shared, parts, find(parts)?),
        };
        let speaks = negotiate::accept(&parts.headers, &topic.settings().encode.content_type())?;
        let cursor = match negotiate::start(parts)? {
            Start::Latest => topic.latest(),
            Start::Oldest => topic.oldest(),
            Start::After(cursor) => cursor,
        };
        let here = (shared.enter)(parts)?;
        let subscriber = topic.subscribe(cursor);
        if speaks == Speaks::Events && parts.method == Method::GET {
            let events = sse::Events::new(shared, subscriber, here);
            return Ok(ResponseFuture::ready(sse::stream(TopicBody::events(events))));
        }
        let (wait, asked) = shared.wait_of(parts);
        Ok(ResponseFuture::long_poll(LongPoll::new(subscriber, here, wait, asked)))
    }
}

impl<T, B> hyper::service::Service<Request<B>> for TopicService<T>
where
    T: Send + Sync + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<TopicBody<T>>;
    type Error = Infallible;
    type Future = ResponseFuture<T>;

    fn call(&self, request: Request<B>) -> Self::Future {
        self.respond(request)
    }
}

impl<T, B> tower_service::Service<Request<B>> for TopicService<T>
where
    T: Send + Sync + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<TopicBody<T>>;
    type Error = Infallible;
    type Future = ResponseFuture<T>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.respond(request)
    }
}

impl<T> Clone for TopicService<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T> fmt::Debug for TopicService<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicService").finish_non_exhaustive()
    }
}

/// The headers of each answer that has a cursor.
fn cursor_headers(cursor: Cursor) -> HeaderMap {
    // As many as a long poll's answer has, so that the map is made once.
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(ETAG, entity_tag(cursor));
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers
}

/// Tells a gap, if there is one.
fn tell_gap(headers: &mut HeaderMap, gap: Gap) {
    let missed = match gap {
        Gap::None => return,
        Gap::Missed(count) => HeaderValue::from(count),
        Gap::Unknown => HeaderValue::from_static("unknown"),
    };
    headers.insert(TOPIC_MISSED, missed);
}

/// No cache between us may keep an answer: the next one at the same URL is another.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// `cursor` as an entity tag (RFC 9110 section 8.8.3).
fn entity_tag(cursor: Cursor) -> HeaderValue {
    let mut text = [0; CURSOR_BYTES_MAX];
    let length = cursor.write(&mut text);
    let mut tag = [b'"'; CURSOR_BYTES_MAX + 2];
    tag[1..=length].copy_from_slice(&text[..length]);
    HeaderValue::from_bytes(&tag[..length + 2]).expect("a cursor is made of letters, digits and a dot")
}

fn method_not_allowed<T>(shared: &Shared<T>) -> Refusal {
    let allowed = if shared.publish.is_some() { "GET, HEAD, POST" } else { "GET, HEAD" };
    let mut response = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format_args!("use {allowed}")).into_response();
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response.into()
}

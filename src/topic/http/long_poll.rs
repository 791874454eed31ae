//! The future of a request, and the long poll that it mostly is.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::super::{Batch, Subscriber};
use super::body::TopicBody;
use super::builder::Present;
use super::{cursor_headers, tell_gap};
use crate::timer::Alarm;
use crate::waiting::Deadline;

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The future of a [`TopicService`](super::TopicService).
///
/// # What happens on drop
///
/// The client has gone: the request leaves the topic at once. A message that was being published may have been.
///
/// # Panics
///
/// Polling one that waits needs a tokio runtime with its timer enabled.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<T>(State<T>);

// What waits is stored in place: there may be very many of it. The rest is boxed, so that it does not cost those.
enum State<T> {
    LongPoll(LongPoll<T>),
    Ready(Option<Box<Response<TopicBody<T>>>>),
    Boxed(Boxed),
}

/// What is not a long poll of one topic.
pub(super) type Boxed = Pin<Box<dyn Future<Output = Response<Bytes>> + Send>>;

/// A request that waits for news, or for its time to be up.
pub(super) struct LongPoll<T> {
    subscriber: Subscriber<T>,
    // `None`: not to wait at all.
    deadline: Option<Deadline>,
    extra: Option<Box<Extra>>,
}

/// What most requests do not have, boxed in one piece.
struct Extra {
    // That was asked for and is given.
    applied: Option<Duration>,
    _here: Option<Present>,
}

// ===== impl ResponseFuture =====

impl<T> ResponseFuture<T> {
    pub(super) fn ready(response: Response<TopicBody<T>>) -> Self {
        Self(State::Ready(Some(Box::new(response))))
    }

    pub(super) fn long_poll(poll: LongPoll<T>) -> Self {
        Self(State::LongPoll(poll))
    }

    pub(super) fn boxed(boxed: Boxed) -> Self {
        Self(State::Boxed(boxed))
    }
}

impl<T: 'static> Future for ResponseFuture<T> {
    type Output = Result<Response<TopicBody<T>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = match &mut self.0 {
            State::LongPoll(poll) => ready!(poll.poll(cx)),
            State::Ready(response) => *response.take().expect("a future is not polled after it was ready"),
            State::Boxed(boxed) => ready!(boxed.as_mut().poll(cx)).map(TopicBody::full),
        };
        // What waited gives back its place now, not when the response has been written.
        self.0 = State::Ready(None);
        Poll::Ready(Ok(response))
    }
}

impl<T> fmt::Debug for ResponseFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

// ===== impl LongPoll =====

impl<T: 'static> LongPoll<T> {
    pub(super) fn new(
        subscriber: Subscriber<T>,
        here: Option<Present>,
        wait: Duration,
        asked: Option<Duration>,
    ) -> Self {
        let deadline = (!wait.is_zero()).then(|| Deadline::new(Alarm::after(wait)));
        let extra = (asked.is_some() || here.is_some()).then(|| Box::new(Extra { applied: asked, _here: here }));
        Self { subscriber, deadline, extra }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Response<TopicBody<T>>> {
        let mut response = match self.subscriber.poll_next(cx) {
            Poll::Ready(batch) => self.news(batch),
            Poll::Pending => {
                if let Some(deadline) = &mut self.deadline {
                    ready!(deadline.poll(cx));
                }
                self.no_news()
            }
        };
        tell_wait(response.headers_mut(), self.extra.as_ref().and_then(|extra| extra.applied));
        Poll::Ready(response)
    }

    fn news(&self, batch: Batch<T>) -> Response<TopicBody<T>> {
        let mut response = Response::new(TopicBody::full(batch.body()));
        if batch.messages().is_empty() {
            *response.status_mut() = StatusCode::NO_CONTENT;
        }
        let gap = batch.gap();
        *response.headers_mut() = batch.into_headers(|batch| {
            let mut headers = cursor_headers(batch.next());
            if !batch.messages().is_empty() {
                headers.insert(CONTENT_TYPE, self.subscriber.topic().settings().encode.content_type());
            }
            headers
        });
        tell_gap(response.headers_mut(), gap);
        response
    }

    fn no_news(&self) -> Response<TopicBody<T>> {
        let mut response = Response::new(TopicBody::full(Bytes::new()));
        *response.status_mut() = StatusCode::NO_CONTENT;
        *response.headers_mut() = cursor_headers(self.subscriber.cursor());
        response
    }
}

/// Tells which wait was asked for and is given (RFC 7240 section 3).
pub(super) fn tell_wait(headers: &mut HeaderMap, applied: Option<Duration>) {
    if let Some(wait) = applied {
        let applied = HeaderValue::try_from(format!("wait={}", wait.as_secs())).expect("digits are fit for a header");
        headers.insert(PREFERENCE_APPLIED, applied);
    }
}

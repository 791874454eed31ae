//! The same written plainly on hyper: a history, a channel that tells of what is new, and a future for each request.
//!
//! It does what a topic does for these clients, and no more: a cursor of the same length, nothing lost between two polls,
//! each message encoded once and its bytes shared.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::Either as EitherFuture;
use futures_util::stream::LocalBoxStream;
use http_body_util::{Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use tokio::sync::{broadcast, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{BroadcastStream, WatchStream};

use crate::hub::{Hub, Message, on_hyper, topic_number};

/// How many messages are kept, by a topic too.
pub(crate) const CAPACITY: usize = 16;

const WAIT: Duration = Duration::from_secs(300);

/// As long as that of a topic's cursor.
const EPOCH: &str = "0123456789";

type PlainBody = Either<Full<Bytes>, StreamBody<LocalBoxStream<'static, Result<Frame<Bytes>, Infallible>>>>;

/// A message in all the forms that it is sent in.
#[derive(Debug, Default)]
struct Published {
    seq: u64,
    json: Bytes,
    // Alone in an array, as nearly everyone gets it.
    body: Bytes,
    event: Bytes,
}

/// A topic with one of tokio's channels.
struct Room<C> {
    // The newest in front.
    history: RefCell<VecDeque<Arc<Published>>>,
    channel: C,
}

/// What is wanted of a channel.
trait Channel: 'static {
    fn new() -> Self;
    fn send(&self, message: Arc<Published>);
    fn receivers(&self) -> usize;
    /// The next message that is sent from this call on.
    fn next(&self) -> impl Future<Output = Arc<Published>> + 'static;
    fn stream(&self) -> LocalBoxStream<'static, Arc<Published>>;
}

pub(crate) fn serve_broadcast(count: usize) {
    serve::<broadcast::Sender<Arc<Published>>>(count);
}

pub(crate) fn serve_watch(count: usize) {
    serve::<watch::Sender<Arc<Published>>>(count);
}

fn serve<C: Channel>(count: usize) {
    let rooms: Vec<Rc<Room<C>>> = (0..count).map(|_| Rc::new(Room::new())).collect();
    let hub = rooms.clone();
    let make = || {
        service_fn(move |request: Request<Incoming>| {
            let room = &rooms[topic_number(request.uri().path())];
            // Nothing of the request is kept while it waits.
            let answer = match request.headers().get(ACCEPT) {
                Some(accept) if accept == "text/event-stream" => EitherFuture::Left(std::future::ready(room.events())),
                _ => EitherFuture::Right(room.clone().poll(cursor(request.headers()))),
            };
            async move { Ok::<_, Infallible>(answer.await) }
        })
    };
    on_hyper(make, hub);
}

// ===== impl Room =====

impl<C: Channel> Room<C> {
    fn new() -> Self {
        Self { history: RefCell::default(), channel: C::new() }
    }

    fn head(&self) -> u64 {
        self.history.borrow().front().map_or(0, |message| message.seq)
    }

    fn publish(&self, message: &Message) {
        let json = serde_json::to_string(message).unwrap();
        let seq = self.head() + 1;
        let body = format!("[{json}]").into();
        let event = format!("id: {EPOCH}.{seq}\ndata: {json}\n\n").into();
        let published = Arc::new(Published { seq, json: json.into(), body, event });
        let mut history = self.history.borrow_mut();
        history.push_front(published.clone());
        history.truncate(CAPACITY);
        drop(history);
        self.channel.send(published);
    }

    /// Answers with what is newer than `cursor`, or waits for it.
    async fn poll(self: Rc<Self>, cursor: Option<u64>) -> Response<PlainBody> {
        let next = self.channel.next();
        let cursor = cursor.unwrap_or_else(|| self.head());
        let news = self.since(cursor);
        if let Some(newest) = news.first() {
            return answer(newest.seq, join(&news));
        }
        match tokio::time::timeout(WAIT, next).await {
            Ok(message) => answer(message.seq, message.body.clone()),
            Err(_) => no_news(cursor),
        }
    }

    /// The newest first.
    fn since(&self, cursor: u64) -> Vec<Arc<Published>> {
        self.history.borrow().iter().take_while(|message| message.seq > cursor).cloned().collect()
    }

    fn events(&self) -> Response<PlainBody> {
        let greeting = Bytes::from(format!("retry: 2000\nid: {EPOCH}.{}\n\n", self.head()));
        let messages = self.channel.stream().map(|message| message.event.clone());
        let events = tokio_stream::once(greeting).chain(messages).map(|bytes| Ok(Frame::data(bytes)));
        let body = Either::Right(StreamBody::new(Box::pin(events) as LocalBoxStream<'static, _>));
        Response::builder()
            .header(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))
            .header(CACHE_CONTROL, HeaderValue::from_static("no-store"))
            .header("x-accel-buffering", HeaderValue::from_static("no"))
            .body(body)
            .unwrap()
    }
}

impl<C: Channel> Hub for Vec<Rc<Room<C>>> {
    fn topics(&self) -> usize {
        self.len()
    }

    fn publish(&self, topic: usize, message: Message) {
        self[topic].publish(&message);
    }

    fn waiting(&self) -> usize {
        self.iter().map(|room| room.channel.receivers()).sum()
    }
}

// ===== impl Channel =====

impl Channel for broadcast::Sender<Arc<Published>> {
    fn new() -> Self {
        broadcast::channel(CAPACITY).0
    }

    fn send(&self, message: Arc<Published>) {
        self.send(message).unwrap();
    }

    fn receivers(&self) -> usize {
        self.receiver_count()
    }

    fn next(&self) -> impl Future<Output = Arc<Published>> + 'static {
        let mut receiver = self.subscribe();
        async move { receiver.recv().await.unwrap() }
    }

    fn stream(&self) -> LocalBoxStream<'static, Arc<Published>> {
        Box::pin(BroadcastStream::new(self.subscribe()).filter_map(Result::ok))
    }
}

impl Channel for watch::Sender<Arc<Published>> {
    fn new() -> Self {
        Self::new(Arc::default())
    }

    fn send(&self, message: Arc<Published>) {
        self.send(message).unwrap();
    }

    fn receivers(&self) -> usize {
        self.receiver_count()
    }

    fn next(&self) -> impl Future<Output = Arc<Published>> + 'static {
        let mut receiver = self.subscribe();
        async move {
            receiver.changed().await.unwrap();
            receiver.borrow_and_update().clone()
        }
    }

    fn stream(&self) -> LocalBoxStream<'static, Arc<Published>> {
        Box::pin(WatchStream::from_changes(self.subscribe()))
    }
}

// ===== helpers =====

/// The cursor of a request, if it is of this life of the room.
fn cursor(headers: &HeaderMap) -> Option<u64> {
    let tag = headers.get(IF_NONE_MATCH)?.to_str().ok()?;
    let (epoch, seq) = tag.strip_prefix('"')?.strip_suffix('"')?.split_once('.')?;
    (epoch == EPOCH).then(|| seq.parse().ok()).flatten()
}

fn answer(seq: u64, body: Bytes) -> Response<PlainBody> {
    Response::builder()
        .header(ETAG, tag(seq))
        .header(CACHE_CONTROL, HeaderValue::from_static("no-store"))
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .body(Either::Left(Full::from(body)))
        .unwrap()
}

fn no_news(seq: u64) -> Response<PlainBody> {
    let response = Response::builder().status(StatusCode::NO_CONTENT).header(ETAG, tag(seq));
    response.header(CACHE_CONTROL, HeaderValue::from_static("no-store")).body(Either::Left(Full::default())).unwrap()
}

fn tag(seq: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{EPOCH}.{seq}\"")).unwrap()
}

fn join(newest_first: &[Arc<Published>]) -> Bytes {
    let messages: Vec<&[u8]> = newest_first.iter().rev().map(|message| &message.json[..]).collect();
    [&b"["[..], &messages.join(&b","[..]), b"]"].concat().into()
}

//! The same written plainly on hyper: each request subscribes, waits, and encodes what it gets.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use tokio::sync::{broadcast, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{BroadcastStream, WatchStream};

use crate::scenario::Scenario;
use crate::server::{Hub, Message, on_hyper, topic_number};

/// As many as are behind when all is well.
const CAPACITY: usize = 16;

const WAIT: Duration = Duration::from_secs(300);

type PlainBody = UnsyncBoxBody<Bytes, Infallible>;

pub(crate) fn serve_broadcast(count: usize, scenario: Scenario) {
    let senders: Vec<broadcast::Sender<Message>> = (0..count).map(|_| broadcast::channel(CAPACITY).0).collect();
    let hub = senders.clone();
    on_hyper(
        || {
            service_fn(move |request: Request<Incoming>| {
                let mut receiver = senders[topic_number(request.uri().path())].subscribe();
                drop(request);
                async move {
                    if scenario == Scenario::Events {
                        let messages = BroadcastStream::new(receiver).filter_map(Result::ok);
                        return Ok::<_, Infallible>(events(messages.map(|message| event(&message))));
                    }
                    Ok(match tokio::time::timeout(WAIT, receiver.recv()).await {
                        Ok(Ok(message)) => answer(&message),
                        _ => no_news(),
                    })
                }
            })
        },
        hub,
    );
}

impl Hub for Vec<broadcast::Sender<Message>> {
    fn topics(&self) -> usize {
        self.len()
    }

    fn publish(&self, topic: usize, message: Message) {
        self[topic].send(message).unwrap();
    }

    fn waiting(&self) -> usize {
        self.iter().map(broadcast::Sender::receiver_count).sum()
    }
}

pub(crate) fn serve_watch(count: usize, scenario: Scenario) {
    let nothing = Message { round: 0, at: 0, from: String::new(), text: String::new() };
    let senders: Vec<watch::Sender<Message>> = (0..count).map(|_| watch::Sender::new(nothing.clone())).collect();
    let hub = senders.clone();
    on_hyper(
        || {
            service_fn(move |request: Request<Incoming>| {
                let mut receiver = senders[topic_number(request.uri().path())].subscribe();
                drop(request);
                async move {
                    if scenario == Scenario::Events {
                        let messages = WatchStream::from_changes(receiver);
                        return Ok::<_, Infallible>(events(messages.map(|message| event(&message))));
                    }
                    Ok(match tokio::time::timeout(WAIT, receiver.changed()).await {
                        Ok(Ok(())) => answer(&receiver.borrow_and_update()),
                        _ => no_news(),
                    })
                }
            })
        },
        hub,
    );
}

impl Hub for Vec<watch::Sender<Message>> {
    fn topics(&self) -> usize {
        self.len()
    }

    fn publish(&self, topic: usize, message: Message) {
        self[topic].send(message).unwrap();
    }

    fn waiting(&self) -> usize {
        self.iter().map(watch::Sender::receiver_count).sum()
    }
}

fn answer(message: &Message) -> Response<PlainBody> {
    Response::builder()
        .header("content-type", "application/json")
        .header("cache-control", "no-store")
        .body(Full::from(serde_json::to_vec(message).unwrap()).boxed_unsync())
        .unwrap()
}

fn no_news() -> Response<PlainBody> {
    Response::builder().status(StatusCode::NO_CONTENT).body(Empty::new().boxed_unsync()).unwrap()
}

fn event(message: &Message) -> Bytes {
    format!("id: {}\ndata: {}\n\n", message.round, serde_json::to_string(message).unwrap()).into()
}

fn events(messages: impl tokio_stream::Stream<Item = Bytes> + Send + 'static) -> Response<PlainBody> {
    Response::builder()
        .header("content-type", "text/event-stream")
        .header("cache-control", "no-store")
        .body(StreamBody::new(messages.map(|bytes| Ok(Frame::data(bytes)))).boxed_unsync())
        .unwrap()
}

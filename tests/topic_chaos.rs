//! 500 clients on real sockets poll, read events, hang up and come back at random, while four threads publish 100,000
//! messages: what each client has got is complete and in order, or has gaps that it was told and that add up.
#![cfg(all(feature = "topic", feature = "acceptor"))]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "support/chance.rs"]
mod chance;
#[path = "support/serve.rs"]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_deferred::topic::http::TopicService;
use hyper_deferred::topic::{Builder, Encode};
use hyper_deferred::{BoxError, Topic};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use crate::chance::Chance;

const CLIENTS: u64 = 500;
const PUBLISHERS: u32 = 4;
const MESSAGES: u32 = 100_000;
// So many messages are published for each answer, so that clients and publishers meet all the time.
const MESSAGES_FOR_ANSWER: u32 = 2;
// A client that is away for a few bursts misses something.
const HISTORY: usize = 1000;

/// What a client has got, in order.
#[derive(Clone, Copy)]
enum Entry {
    Message(u32),
    Missed(u64),
}

/// Numbers, one a line.
struct Lines;

impl Encode<u32> for Lines {
    fn content_type(&self) -> HeaderValue {
        HeaderValue::from_static("text/plain")
    }
    fn encode(&self, value: &u32) -> Result<Bytes, BoxError> {
        Ok(value.to_string().into())
    }
    fn join(&self, messages: &[Bytes]) -> Bytes {
        messages.join(&b"\n"[..]).into()
    }
}

#[test]
fn every_client_has_everything_or_was_told_what_it_missed() {
    let topic = Builder::new(Lines).history_count_max(HISTORY).batch_count_max(400).build();
    let start = topic.latest().to_string();
    let served: Vec<_> = (0..2)
        .map(|_| {
            let service = TopicService::new(topic.clone());
            support::serve(move || service)
        })
        .collect();
    let addrs: Vec<SocketAddr> = served.iter().map(|served| served.addr).collect();
    let answers = Arc::new(Semaphore::new(0));
    let left = Arc::new(AtomicUsize::new(PUBLISHERS as usize));

    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let (topic, answers, left) = (topic.clone(), answers.clone(), left.clone());
            std::thread::spawn(move || publish(&topic, publisher, &answers, &left))
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let logs: Vec<Vec<Entry>> = runtime.block_on(async {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let client = Client {
                    chance: Chance::new(number + 1),
                    addrs: addrs.clone(),
                    cursor: start.clone(),
                    log: Vec::new(),
                    connection: None,
                    answers: answers.clone(),
                };
                tokio::spawn(client.live(topic.clone(), left.clone()))
            })
            .collect();
        let mut logs = Vec::new();
        for client in clients {
            logs.push(client.await.unwrap());
        }
        logs
    });

    let mut order = vec![u32::MAX; MESSAGES as usize];
    for (seq, message) in publishers.into_iter().flat_map(|thread| thread.join().unwrap()) {
        order[seq] = message;
    }
    check(&order, &logs);
    drop(runtime);
    drop(served);
    assert_eq!(topic.waiting(), 0, "nobody is left behind");
}

/// Publishes its share, and gives each message with its place in the topic.
fn publish(topic: &Topic<u32>, publisher: u32, answers: &Semaphore, left: &AtomicUsize) -> Vec<(usize, u32)> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let share = MESSAGES / PUBLISHERS;
    let mut published = Vec::new();
    for message in publisher * share..(publisher + 1) * share {
        if message % MESSAGES_FOR_ANSWER == 0 {
            runtime.block_on(answers.acquire()).unwrap().forget();
        }
        let cursor = topic.publish(message).unwrap().cursor.to_string();
        let (_, seq) = cursor.split_once('.').unwrap();
        published.push((usize::from_str_radix(seq, 32).unwrap() - 1, message));
    }
    left.fetch_sub(1, Ordering::SeqCst);
    published
}

/// Each log tells the whole order, in its messages and in its gaps.
fn check(order: &[u32], logs: &[Vec<Entry>]) {
    let (mut messages, mut gaps) = (0_u64, 0_u64);
    for log in logs {
        let mut at = 0;
        for entry in log {
            match *entry {
                Entry::Message(message) => {
                    assert_eq!(message, order[at], "the message at {at}");
                    at += 1;
                    messages += 1;
                }
                Entry::Missed(count) => {
                    at += usize::try_from(count).unwrap();
                    gaps += 1;
                }
            }
        }
        assert_eq!(at, order.len(), "messages and gaps add up");
    }
    // Both happen, and often: else this test would show nothing.
    assert!(messages > 10 * u64::from(MESSAGES), "{messages} messages were got");
    assert!(gaps > CLIENTS, "{gaps} gaps were told");
}

struct Client {
    chance: Chance,
    addrs: Vec<SocketAddr>,
    cursor: String,
    log: Vec<Entry>,
    connection: Option<Connection>,
    answers: Arc<Semaphore>,
}

/// Its drop closes the socket, whatever is going on.
struct Connection {
    send: SendRequest<Empty<Bytes>>,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// Comes and goes until all is published, and then reads the rest in peace.
    async fn live(mut self, topic: Topic<u32>, publishing: Arc<AtomicUsize>) -> Vec<Entry> {
        while publishing.load(Ordering::SeqCst) > 0 {
            // Whoever does nothing for a while lets the publishers go on, too.
            self.answers.add_permits(1);
            let patience = Duration::from_millis(1 + self.chance.below(100));
            match self.chance.below(10) {
                // Hangs up while it waits, or in the middle of an answer.
                0 | 1 => {
                    let _too_late = tokio::time::timeout(patience / 20, self.poll()).await;
                    self.connection = None;
                }
                // Reads events for a while, and hangs up.
                2 | 3 => {
                    let _too_late = tokio::time::timeout(patience, self.events()).await;
                    self.connection = None;
                }
                // Is away.
                4 => {
                    self.connection = None;
                    tokio::time::sleep(patience).await;
                }
                _ => {
                    let _no_news = tokio::time::timeout(Duration::from_millis(200), self.poll()).await;
                    if self.connection.as_ref().is_some_and(|connection| !connection.send.is_ready()) {
                        self.connection = None;
                    }
                }
            }
        }
        self.connection = None;
        while self.cursor != topic.latest().to_string() {
            self.poll().await;
        }
        self.log
    }

    async fn request(&mut self, accept: &'static str) -> Response<Incoming> {
        if self.connection.is_none() {
            let addr = self.addrs[usize::try_from(self.chance.below(self.addrs.len() as u64)).unwrap()];
            let stream = TcpStream::connect(addr).await.unwrap();
            let (send, connection) = handshake(TokioIo::new(stream)).await.unwrap();
            let task = tokio::spawn(connection).abort_handle();
            self.connection = Some(Connection { send, task });
        }
        let (name, value) = match self.chance.below(2) {
            0 => ("if-none-match", format!("\"{}\"", self.cursor)),
            _ => ("last-event-id", self.cursor.clone()),
        };
        let request = Request::get("/").header("accept", accept).header(name, value).body(Empty::new()).unwrap();
        let connection = self.connection.as_mut().unwrap();
        connection.send.send_request(request).await.unwrap()
    }

    /// What is interrupted before it is all there was not got: the cursor stays.
    async fn poll(&mut self) {
        let (head, body) = self.request("text/plain").await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let tag = head.headers["etag"].to_str().unwrap();
        self.cursor = tag.trim_matches('"').to_owned();
        if let Some(missed) = head.headers.get("topic-missed") {
            self.log.push(Entry::Missed(missed.to_str().unwrap().parse().unwrap()));
        }
        let text = std::str::from_utf8(&body).unwrap();
        self.log.extend(text.lines().map(|line| Entry::Message(line.parse().unwrap())));
    }

    /// As a browser does it: an event counts when it is all there.
    async fn events(&mut self) {
        let mut body = self.request("text/event-stream").await.into_body();
        let mut text = String::new();
        while let Some(frame) = body.frame().await {
            text.push_str(std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap());
            while let Some((event, rest)) = text.split_once("\n\n") {
                self.event(event);
                text = rest.to_owned();
            }
        }
    }

    fn event(&mut self, event: &str) {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        if let Some(id) = field("id") {
            self.cursor = id.to_owned();
        }
        match (field("event"), field("data")) {
            (None, Some(data)) => self.log.push(Entry::Message(data.parse().unwrap())),
            (Some("gap"), Some(data)) => {
                let missed = data.trim_start_matches("{\"missed\":").trim_end_matches('}');
                self.log.push(Entry::Missed(missed.parse().unwrap()));
            }
            (None, None) => {}
            other => panic!("an event of an unknown kind: {other:?}"),
        }
    }
}

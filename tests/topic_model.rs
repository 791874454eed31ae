//! Random histories of a topic against a naive model: no message is missing without a told gap, none comes twice, and
//! the order is kept.
#![cfg(feature = "topic")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use hyper_deferred::topic::{Builder, Cursor, Encode, Gap, Waiting};
use hyper_deferred::{BoxError, Topic, Topics};
use proptest::prelude::*;
use tokio::runtime::Runtime;
use tokio::time::Instant;

const COUNT_MAX: usize = 6;
const BYTES_MAX: usize = 64;
const BATCH_COUNT_MAX: usize = 3;
const BATCH_BYTES_MAX: usize = 40;
const AGE_MAX: Duration = Duration::from_secs(5);
const UNUSED_AGE_MAX: Duration = Duration::from_secs(20);
// More than are woken in one slice, so that there is a crowd to be handed out to.
const CLIENTS: usize = 150;

#[derive(Clone, Debug)]
enum Op {
    /// A message of so many bytes beyond its number.
    Publish(usize),
    /// The client polls with the cursor that it has, or with one from another place.
    Poll(usize, From),
    /// So many clients poll, from this one on.
    PollCrowd(usize),
    HangUp(usize),
    /// Time passes.
    Advance(u64),
    /// Everyone hangs up and the topic begins a new life.
    Restart,
    /// Everyone hangs up and nobody uses the topic until it has gone.
    Forget,
}

#[derive(Clone, Copy, Debug)]
enum From {
    Own,
    Oldest,
    Future,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let from = prop_oneof![8 => Just(From::Own), 1 => Just(From::Oldest), 1 => Just(From::Future)];
    let op = prop_oneof![
        8 => (0..40_usize).prop_map(Op::Publish),
        8 => (0..CLIENTS, from).prop_map(|(client, from)| Op::Poll(client, from)),
        1 => (0..CLIENTS).prop_map(Op::PollCrowd),
        3 => (0..CLIENTS).prop_map(Op::HangUp),
        3 => (0..4000_u64).prop_map(Op::Advance),
        1 => Just(Op::Restart),
        1 => Just(Op::Forget),
    ];
    prop::collection::vec(op, 1..120)
}

/// What a client knows, and its request if it has one.
struct Client {
    cursor: Option<Cursor>,
    /// Where the model says that it stands: life and sequence number.
    place: (u64, u64),
    waiting: Option<Pin<Box<Waiting<Bytes>>>>,
    woken: Arc<Flag>,
    /// The number that the next message must have, unless a gap is told.
    expected: u64,
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// As many messages as there are, one behind the other.
struct Joined;

impl Encode<Bytes> for Joined {
    fn content_type(&self) -> HeaderValue {
        HeaderValue::from_static("text/plain")
    }

    fn encode(&self, value: &Bytes) -> Result<Bytes, BoxError> {
        Ok(value.clone())
    }

    fn join(&self, messages: &[Bytes]) -> Bytes {
        messages.concat().into()
    }
}

/// The naive model of one life.
#[derive(Default)]
struct Model {
    life: u64,
    head: u64,
    kept: VecDeque<(u64, usize, Instant)>,
}

impl Model {
    fn evict(&mut self, now: Instant) {
        while let Some((_, _, at)) = self.kept.front() {
            let bytes: usize = self.kept.iter().map(|(_, bytes, _)| bytes).sum();
            if self.kept.len() > COUNT_MAX || bytes > BYTES_MAX || now - *at > AGE_MAX {
                self.kept.pop_front();
            } else {
                return;
            }
        }
    }

    /// What a reader at `place` gets: the gap and the numbers of the messages.
    fn read(&self, place: (u64, u64)) -> Option<(Gap, Vec<u64>)> {
        let (life, seq) = place;
        let oldest = self.kept.front().map_or(self.head, |(seq, _, _)| *seq);
        if life != self.life || seq > self.head {
            Some((Gap::Unknown, self.batch(oldest)))
        } else if seq == self.head {
            None
        } else if seq < oldest {
            Some((Gap::Missed(oldest - seq), self.batch(oldest)))
        } else {
            Some((Gap::None, self.batch(seq)))
        }
    }

    fn batch(&self, first: u64) -> Vec<u64> {
        let mut bytes_left = BATCH_BYTES_MAX;
        let mut batch = Vec::new();
        for (seq, bytes, _) in self.kept.iter().filter(|(seq, _, _)| *seq >= first) {
            if batch.len() == BATCH_COUNT_MAX || (!batch.is_empty() && *bytes > bytes_left) {
                break;
            }
            bytes_left = bytes_left.saturating_sub(*bytes);
            batch.push(*seq);
        }
        batch
    }
}

struct World {
    runtime: Runtime,
    topics: Topics<Bytes>,
    model: Model,
    clients: Vec<Client>,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _entered = runtime.enter();
        let topics = Builder::<Bytes>::new(Joined)
            .batch_count_max(BATCH_COUNT_MAX)
            .batch_bytes_max(BATCH_BYTES_MAX)
            .history_count_max(COUNT_MAX)
            .history_bytes_max(BYTES_MAX)
            .history_age_max(AGE_MAX)
            .registry(1, UNUSED_AGE_MAX);
        let cursor = topics.open("it").unwrap().latest();
        let client = || Client {
            cursor: Some(cursor),
            place: (0, 0),
            waiting: None,
            woken: Arc::new(Flag::default()),
            expected: 0,
        };
        let clients = (0..CLIENTS).map(|_| client()).collect();
        drop(_entered);
        Self { runtime, topics, model: Model::default(), clients }
    }

    fn topic(&self) -> Topic<Bytes> {
        let _entered = self.runtime.enter();
        self.topics.open("it").unwrap()
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Publish(extra) => self.publish(extra),
            Op::Poll(client, from) => self.poll(client, from),
            Op::PollCrowd(first) => (first..CLIENTS).for_each(|client| self.poll(client, From::Own)),
            Op::HangUp(client) => self.hang_up(client),
            Op::Advance(ms) => self.advance(Duration::from_millis(ms)),
            Op::Restart => {
                (0..CLIENTS).for_each(|client| self.hang_up(client));
                assert!(self.topics.remove("it").is_some());
                self.new_life();
            }
            Op::Forget => {
                (0..CLIENTS).for_each(|client| self.hang_up(client));
                self.advance(UNUSED_AGE_MAX * 3 / 2);
                assert!(self.topics.is_empty(), "an unused topic goes when its age has come");
                self.new_life();
            }
        }
        let parked = self.clients.iter().filter(|client| client.waiting.is_some()).count();
        assert_eq!(self.topic().waiting(), parked, "who has gone has left the list");
    }

    fn new_life(&mut self) {
        self.model = Model { life: self.model.life + 1, ..Model::default() };
        let cursor = self.topic().latest();
        // A cursor of the new life is not needed by anyone: all of them still have one of an old life.
        assert!(self.clients.iter().all(|client| client.cursor != Some(cursor)));
    }

    fn advance(&self, by: Duration) {
        // Stepwise, so that what is driven by time runs at its times.
        let step = Duration::from_millis(50);
        self.runtime.block_on(async {
            let end = Instant::now() + by;
            while Instant::now() < end {
                tokio::time::advance(step.min(end - Instant::now())).await;
                tokio::task::yield_now().await;
            }
        });
    }

    fn publish(&mut self, extra: usize) {
        let topic = self.topic();
        let entered = self.runtime.enter();
        let now = Instant::now();
        let text = format!("{:04}{}", self.model.head, "x".repeat(extra));
        self.model.kept.push_back((self.model.head, text.len(), now));
        self.model.head += 1;
        self.model.evict(now);
        let parked = self.clients.iter().filter(|client| client.waiting.is_some()).count();
        let published = topic.publish(text.into()).unwrap();
        assert_eq!(published.waiting, parked);
        assert_eq!(published.cursor, topic.latest());
        drop(entered);
        // The crowd is woken by a task.
        self.runtime.block_on(async {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        });
        for client in 0..CLIENTS {
            if self.clients[client].waiting.is_some() {
                assert!(self.clients[client].woken.0.load(Ordering::Relaxed), "everyone who waited has been woken");
                self.poll_again(client);
            }
        }
    }

    fn poll(&mut self, client: usize, from: From) {
        let topic = self.topic();
        let _entered = self.runtime.enter();
        self.model.evict(Instant::now());
        let head = self.model.head;
        let life = self.model.life;
        let oldest = self.model.kept.front().map_or(head, |(seq, _, _)| *seq);
        let this = &mut self.clients[client];
        this.waiting = None;
        match from {
            From::Own => {}
            From::Oldest => {
                this.cursor = Some(topic.oldest());
                this.place = (life, oldest);
                this.expected = oldest;
            }
            From::Future => {
                let text = topic.latest().to_string();
                let epoch = text.split_once('.').unwrap().0;
                this.cursor = Some(format!("{epoch}.vvvvvv").parse().unwrap());
                this.place = (life, u64::MAX);
            }
        }
        this.waiting = Some(Box::pin(topic.poll(this.cursor.unwrap())));
        drop(_entered);
        self.poll_again(client);
    }

    fn poll_again(&mut self, client: usize) {
        let _entered = self.runtime.enter();
        self.model.evict(Instant::now());
        let this = &mut self.clients[client];
        this.woken.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(this.woken.clone());
        let waiting = this.waiting.as_mut().unwrap();
        let expected = self.model.read(this.place);
        match (waiting.as_mut().poll(&mut Context::from_waker(&waker)), expected) {
            (Poll::Pending, None) => {}
            (Poll::Ready(batch), Some((gap, numbers))) => {
                assert_eq!(batch.gap(), gap);
                let got: Vec<u64> = batch.messages().iter().map(|message| number(message)).collect();
                assert_eq!(got, numbers);
                let joined: Vec<u8> = batch.messages().iter().flat_map(|message| message.to_vec()).collect();
                assert_eq!(batch.body(), joined, "the body that is shared is that of these messages");
                match gap {
                    Gap::None => {}
                    Gap::Missed(count) => this.expected += count,
                    Gap::Unknown => this.expected = numbers.first().copied().unwrap_or(self.model.head),
                }
                for number in numbers {
                    assert_eq!(number, this.expected, "none is missing, none comes twice, the order is kept");
                    this.expected += 1;
                }
                this.place = (self.model.life, this.expected);
                this.cursor = Some(batch.next());
                this.waiting = None;
            }
            (Poll::Pending, Some(expected)) => panic!("parked, and should have got {expected:?}"),
            (Poll::Ready(batch), None) => panic!("got {batch:?}, and should have been parked"),
        }
    }

    fn hang_up(&mut self, client: usize) {
        self.clients[client].waiting = None;
    }
}

fn number(message: &[u8]) -> u64 {
    std::str::from_utf8(&message[..4]).unwrap().parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_topic_does_what_its_model_does(ops in ops()) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
        }
    }

    #[test]
    fn a_cursor_is_what_its_text_says(text in "[0-9a-v.]{0,26}") {
        if let Ok(cursor) = text.parse::<Cursor>() {
            prop_assert_eq!(cursor.to_string(), text);
        }
    }

    #[test]
    fn no_text_makes_parsing_panic(text in any::<String>()) {
        let _ = text.parse::<Cursor>();
    }
}

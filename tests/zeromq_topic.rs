//! Topics that go from one process to others through PUB and SUB sockets.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a helper fails its test, and prints to its parent")]
#![cfg(unix)]

use std::io::{BufRead as _, BufReader};
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use hyper_deferred::Topic;
use hyper_deferred::topic::{Batch, Builder, Cursor, Gap, Json, Message, Raw, Subscriber};
use hyper_deferred::zeromq::{Feed, Publisher};
use tokio::task::spawn_blocking;

/// Long enough for any machine; a test that waits for what never comes should fail, not hang.
const WITHIN: Duration = Duration::from_secs(20);

#[tokio::test]
async fn what_is_published_in_one_topic_comes_in_another_in_order_and_whole() {
    let source = Topic::raw();
    let publisher = Publisher::bind("tcp://127.0.0.1:*").unwrap();
    let mut feed = Feed::connect(publisher.endpoint(), "news").unwrap();
    let mut reads = source.subscribe(source.latest());
    tokio::spawn(async move { publisher.publish("news", &mut reads).await });
    let first = connected(&source, &mut feed).await;

    let fed = Topic::raw();
    let mut hears = fed.subscribe(fed.latest());
    tokio::spawn(feed.feed(&fed));
    for n in first + 1..first + 1000 {
        source.publish(Bytes::from(n.to_string())).unwrap();
        if n % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut expected = first + 1;
    while expected < first + 1000 {
        let batch = tokio::time::timeout(WITHIN, hears.next()).await.unwrap();
        let first_of_all = if expected == first + 1 { Gap::Unknown } else { Gap::None };
        assert_eq!(batch.gap(), first_of_all, "what was before is unknown to who began here");
        for message in batch.messages() {
            assert_eq!(message.encoded(), &expected.to_string());
            expected += 1;
        }
    }
}

#[tokio::test]
async fn a_batch_is_a_name_two_cursors_and_its_messages() {
    let topic = Builder::<&str>::new(Json).build();
    let publisher = Publisher::bind("tcp://127.0.0.1:*").unwrap();
    let socket = subscriber(publisher.endpoint());
    let mut reads = topic.subscribe(topic.latest());
    let before = topic.latest();
    topic.publish("one").unwrap();
    let after = topic.publish("two").unwrap().cursor;
    let frames = resend_until_received(&publisher, &mut reads, || topic.subscribe(before), socket).await;
    assert_eq!(frames, ["news", &before.to_string(), &after.to_string(), "\"one\"", "\"two\""]);
    assert_eq!(reads.cursor(), after, "it is where to go on");
}

#[tokio::test]
async fn a_batch_behind_a_gap_says_that_it_does_not_follow_the_last() {
    let topic = Builder::<&str>::new(Json).history_count_max(1).build();
    let publisher = Publisher::bind("tcp://127.0.0.1:*").unwrap();
    let socket = subscriber(publisher.endpoint());
    let before = topic.latest();
    topic.publish("one").unwrap();
    topic.publish("two").unwrap();
    let mut reads = topic.subscribe(before);
    let frames = resend_until_received(&publisher, &mut reads, || topic.subscribe(before), socket).await;
    assert_eq!(frames, ["news", "", &topic.latest().to_string(), "\"two\""]);
}

#[tokio::test]
async fn a_feed_tells_what_was_lost_and_takes_nothing_but_its_own() {
    let (socket, mut feed) = by_hand().await;
    let cursors = cursors(6);
    let text = |n: usize| cursors[n].to_string();
    let sent: [&[&str]; 9] = [
        &["news", &text(0), &text(1), "first of all"],
        &["newsletter", &text(1), &text(2), "another's"],
        &["news", "no cursor", &text(2), "x"],
        &["news", &text(1), &text(3), "not as many as it says"],
        &["news", "", &text(1), "more than", "there were"],
        &["news"],
        &["news", &text(1), &text(3), "second", "third"],
        &["news", &text(4), &text(5), "after a loss"],
        &["news", "", &text(5), "again"],
    ];
    for frames in sent {
        socket.send_multipart(frames, 0).unwrap();
    }
    let expected: [(&[&str], usize, Gap); 4] = [
        (&["first of all"], 1, Gap::None),
        (&["second", "third"], 3, Gap::None),
        (&["after a loss"], 5, Gap::Missed(1)),
        (&["again"], 5, Gap::None),
    ];
    for (messages, cursor, gap) in expected {
        let fed = tokio::time::timeout(WITHIN, feed.next()).await.unwrap();
        assert_eq!(fed.messages, messages);
        assert_eq!((fed.begins, fed.cursor), (cursors[cursor - messages.len()], cursors[cursor]), "{messages:?}");
        assert_eq!(fed.gap, gap, "{messages:?}");
        assert_eq!(feed.cursor(), Some(cursors[cursor]));
    }
}

#[tokio::test]
async fn a_fed_topic_takes_its_sources_cursors_and_tells_what_the_way_has_lost() {
    let (socket, feed) = by_hand().await;
    let fed = Topic::raw();
    tokio::spawn(feed.feed(&fed));
    let source = cursors(10);
    let send = |begins: usize, message: &str| {
        let frames = ["news", &source[begins].to_string(), &source[begins + 1].to_string(), message];
        socket.send_multipart(frames, 0).unwrap();
    };

    let mut early = fed.subscribe(source[2]);
    assert!(is_waiting(&mut early), "nothing has come, and nobody knows what the source is");
    send(2, "2");
    assert_eq!(next(&mut early).await, (Gap::None, vec!["2".into()], source[3]));
    assert_eq!((fed.oldest(), fed.latest()), (source[2], source[3]));

    let mut ahead = fed.subscribe(source[5]);
    assert!(is_waiting(&mut ahead), "the source has given it out, and here it has not come yet");
    for n in 3..7 {
        send(n, &n.to_string());
    }
    assert_eq!(next(&mut ahead).await, (Gap::None, vec!["5".into()], source[6]));
    assert_eq!(next(&mut ahead).await, (Gap::None, vec!["6".into()], source[7]));
    assert_eq!(next(&mut early).await.1, ["3"]);

    // The same once more, and then 7 and 8 are lost.
    send(6, "6");
    send(9, "9");
    assert_eq!(next(&mut ahead).await, (Gap::Missed(2), vec!["9".into()], source[10]));
    assert_eq!(next(&mut early).await, (Gap::Missed(5), vec!["9".into()], source[10]), "it was at 4");

    // Another life of the source: its second message.
    let restarted = cursors(2);
    let frames = ["news", &restarted[1].to_string(), &restarted[2].to_string(), "anew"];
    socket.send_multipart(frames, 0).unwrap();
    assert_eq!(next(&mut ahead).await, (Gap::Unknown, vec!["anew".into()], restarted[2]));
    assert_eq!(next(&mut fed.subscribe(restarted[0])).await.0, Gap::Missed(1));
    assert_eq!(next(&mut fed.subscribe(source[9])).await.0, Gap::Unknown);
}

#[tokio::test]
async fn nothing_else_can_be_published_in_a_fed_topic() {
    let feed = Feed::connect("inproc://nobody", "news").unwrap();
    let fed = Topic::raw();
    let _not_polled = feed.feed(&fed);
    let error = fed.publish(Bytes::from("local")).unwrap_err();
    assert!(error.to_string().contains("has its messages from elsewhere"), "{error}");
    assert_eq!(error.value, "local");
}

#[tokio::test]
async fn a_client_moves_between_the_source_and_a_topic_that_it_feeds_and_misses_nothing() {
    let path = std::env::temp_dir().join(format!("hyper-deferred-feed-{}", std::process::id()));
    let ipc = format!("ipc://{}", path.display());
    for endpoint in ["tcp://127.0.0.1:*", &ipc] {
        let here = Topic::raw();
        let publisher = Publisher::bind(endpoint).unwrap();
        let mut feed = Feed::connect(publisher.endpoint(), "news").unwrap();
        let mut reads = here.subscribe(here.latest());
        tokio::spawn(async move { publisher.publish("news", &mut reads).await });
        let first = connected(&here, &mut feed).await;
        let there = Topic::raw();
        tokio::spawn(feed.feed(&there));

        let mut cursor = here.latest();
        for n in first + 1..first + 300 {
            here.publish(Bytes::from(n.to_string())).unwrap();
            // By turns it polls here, where the message is, and there, where it is to come.
            let topic = if n % 3 == 0 { &there } else { &here };
            let (gap, messages, next) = next(&mut topic.subscribe(cursor)).await;
            assert_eq!((gap, messages), (Gap::None, vec![n.to_string()]), "{endpoint}");
            cursor = next;
        }
        assert_eq!(cursor, here.latest());
    }
}

#[tokio::test]
async fn what_a_slow_feed_loses_is_told_to_its_readers_with_the_right_count() {
    const BURST: u64 = 3000;
    let builder = || Builder::<Bytes>::new(Raw).history_count_max(10_000);
    let source = builder().build();
    let publisher = Publisher::bind("tcp://127.0.0.1:*").unwrap();
    let mut feed = Feed::connect(publisher.endpoint(), "news").unwrap();
    let mut reads = source.subscribe(source.latest());
    tokio::spawn(async move { publisher.publish("news", &mut reads).await });
    let mut sent = connected(&source, &mut feed).await;
    let mut last = sent;
    let fed = builder().build();
    let mut reader = fed.subscribe(source.latest());
    let mut feeding = pin!(feed.feed(&fed));

    let mut missed = 0;
    while missed == 0 {
        // Nobody takes anything meanwhile, and what has been received and not taken is bounded.
        for _ in 0..BURST {
            sent += 1;
            source.publish(Bytes::from(sent.to_string())).unwrap();
        }
        while source.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        let _never_resolves = tokio::time::timeout(Duration::from_millis(100), feeding.as_mut()).await;
        while let Some(batch) = now(&mut reader) {
            let lost = match batch.gap() {
                Gap::None => 0,
                Gap::Missed(count) => count,
                Gap::Unknown => panic!("it is the same life"),
            };
            assert_eq!(batch.messages()[0].encoded(), &(last + lost + 1).to_string());
            last += lost + 1;
            missed += lost;
        }
    }
}

#[tokio::test]
async fn a_source_that_is_killed_and_started_again_is_told_from_its_former_life() {
    let source = Source::start("tcp://127.0.0.1:*");
    let feed = Feed::connect(&source.endpoint, "news").unwrap();
    let fed = Topic::raw();
    tokio::spawn(feed.feed(&fed));
    let mut reader = fed.subscribe(fed.latest());
    assert_eq!(next(&mut reader).await.0, Gap::Unknown);
    let (gap, _, former) = next(&mut reader).await;
    assert_eq!(gap, Gap::None);

    let endpoint = source.endpoint.clone();
    drop(source);
    let _restarted = Source::start(&endpoint);
    let mut told = Gap::None;
    while told == Gap::None {
        told = next(&mut reader).await.0;
    }
    assert_eq!(told, Gap::Unknown, "a life has begun");
    // Each message says where it begins.
    let begins = reader.cursor();
    assert_eq!(next(&mut reader).await, (Gap::None, vec![begins.to_string()], reader.cursor()));
    assert_eq!(next(&mut fed.subscribe(former)).await.0, Gap::Unknown);
}

/// What [`Source`] runs in a process of its own: publishes for as long as it lives.
#[tokio::test]
#[ignore = "a part of the test before"]
async fn source_process() {
    let Ok(endpoint) = std::env::var(SOURCE) else { return };
    let publisher = Publisher::bind(&endpoint).unwrap();
    println!("\n{SOURCE}={}", publisher.endpoint());
    let topic = Topic::raw();
    let mut reads = topic.subscribe(topic.latest());
    tokio::spawn(async move { publisher.publish("news", &mut reads).await });
    loop {
        topic.publish(Bytes::from(topic.latest().to_string())).unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

// ===== Helpers =====

/// Publishes numbers until one has come through, and gives the last one sent. What is sent before a SUB socket has
/// connected is lost: that is how they are.
async fn connected(source: &Topic<Bytes>, feed: &mut Feed) -> u64 {
    let mut sent = 0;
    let mut received = None;
    while received != Some(sent) {
        if received.is_none() {
            sent += 1;
            source.publish(Bytes::from(sent.to_string())).unwrap();
        }
        let fed = tokio::time::timeout(Duration::from_millis(10), feed.next()).await;
        if let Ok(fed) = fed {
            let last = fed.messages.last().unwrap();
            received = Some(std::str::from_utf8(last).unwrap().parse().unwrap());
        }
    }
    sent
}

fn subscriber(endpoint: &str) -> zmq::Socket {
    let socket = zmq::Context::new().socket(zmq::SUB).unwrap();
    socket.set_subscribe(b"news").unwrap();
    socket.set_rcvtimeo(10).unwrap();
    socket.connect(endpoint).unwrap();
    socket
}

/// Publishes the same batch again and again until `socket`, which may not be connected yet, has it.
async fn resend_until_received<T>(
    publisher: &Publisher,
    reads: &mut Subscriber<T>,
    again: impl Fn() -> Subscriber<T>,
    socket: zmq::Socket,
) -> Vec<String> {
    let mut socket = Some(socket);
    loop {
        *reads = again();
        let publish = tokio::time::timeout(Duration::from_millis(1), publisher.publish("news", reads));
        assert!(publish.await.is_err(), "it never resolves");
        let asked = socket.take().unwrap();
        let (asked, received) = spawn_blocking(move || {
            let received = asked.recv_multipart(0);
            (asked, received)
        })
        .await
        .unwrap();
        socket = Some(asked);
        if let Ok(frames) = received {
            return frames.into_iter().map(|frame| String::from_utf8(frame).unwrap()).collect();
        }
    }
}

const SOURCE: &str = "HYPER_DEFERRED_TEST_SOURCE";

/// A publisher in a process of its own, which is killed when dropped.
struct Source {
    endpoint: String,
    process: Child,
}

impl Source {
    fn start(endpoint: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["source_process", "--exact", "--ignored", "--nocapture"])
            .env(SOURCE, endpoint)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let endpoint =
            lines.find_map(|line| Some(line.unwrap().strip_prefix(SOURCE)?.strip_prefix('=')?.to_owned())).unwrap();
        Self { endpoint, process }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// A publisher's socket, and a feed that is connected to it: what is sent from here on arrives.
async fn by_hand() -> (zmq::Socket, Feed) {
    let socket = zmq::Context::new().socket(zmq::XPUB).unwrap();
    socket.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = socket.get_last_endpoint().unwrap().unwrap();
    let feed = Feed::connect(&endpoint, "news").unwrap();
    let subscribed = spawn_blocking(move || {
        assert_eq!(socket.recv_bytes(0).unwrap(), b"\x01news");
        socket
    });
    (subscribed.await.unwrap(), feed)
}

/// The cursors of one life of a topic: its beginning, and so many behind it.
fn cursors(messages: usize) -> Vec<Cursor> {
    let topic = Topic::raw();
    let beginning = topic.latest();
    let behind = (0..messages).map(|_| topic.publish(Bytes::new()).unwrap().cursor);
    std::iter::once(beginning).chain(behind).collect()
}

/// What comes next: what is missing before it, the messages, and where to go on.
async fn next(reader: &mut Subscriber<Bytes>) -> (Gap, Vec<String>, Cursor) {
    let batch = tokio::time::timeout(WITHIN, reader.next()).await.unwrap();
    let text = |message: &Message<Bytes>| String::from_utf8(message.encoded().to_vec()).unwrap();
    (batch.gap(), batch.messages().iter().map(text).collect(), batch.next())
}

/// What is there already.
fn now(reader: &mut Subscriber<Bytes>) -> Option<Batch<Bytes>> {
    match reader.poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(batch) => Some(batch),
        Poll::Pending => None,
    }
}

fn is_waiting(reader: &mut Subscriber<Bytes>) -> bool {
    now(reader).is_none()
}

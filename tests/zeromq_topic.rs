//! Topics that go from one process to others through PUB and SUB sockets.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![cfg(unix)]

use std::time::Duration;

use bytes::Bytes;
use hyper_deferred::Topic;
use hyper_deferred::topic::{Builder, Cursor, Gap, Json};
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
    let takes = fed.clone();
    tokio::spawn(async move { feed.feed(&takes).await });
    for n in first + 1..first + 1000 {
        source.publish(Bytes::from(n.to_string())).unwrap();
        if n % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut expected = first + 1;
    while expected < first + 1000 {
        let batch = tokio::time::timeout(WITHIN, hears.next()).await.unwrap();
        assert_eq!(batch.gap(), Gap::None);
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
    let context = zmq::Context::new();
    let socket = context.socket(zmq::XPUB).unwrap();
    socket.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = socket.get_last_endpoint().unwrap().unwrap();
    let mut feed = Feed::connect(&endpoint, "news").unwrap();
    // The subscription has come: what is sent from here on arrives.
    let socket = spawn_blocking(move || {
        assert_eq!(socket.recv_bytes(0).unwrap(), b"\x01news");
        socket
    })
    .await
    .unwrap();

    let topic = Topic::<Bytes>::raw();
    let cursors: Vec<Cursor> = (0..5).map(|_| topic.publish(Bytes::new()).unwrap().cursor).collect();
    let text = |n: usize| cursors[n].to_string();
    let sent: [&[&str]; 7] = [
        &["news", &text(0), &text(1), "first"],
        &["newsletter", &text(0), &text(1), "another's"],
        &["news", "no cursor", &text(1), "x"],
        &["news"],
        &["news", &text(1), &text(2), "second", "third"],
        &["news", &text(3), &text(4), "after a loss"],
        &["news", "", &text(4), "after a loss at the source"],
    ];
    for frames in sent {
        socket.send_multipart(frames, 0).unwrap();
    }
    let expected: [(&[&str], usize, bool); 4] = [
        (&["first"], 1, false),
        (&["second", "third"], 2, false),
        (&["after a loss"], 4, true),
        (&["after a loss at the source"], 4, true),
    ];
    for (messages, cursor, lost) in expected {
        let fed = tokio::time::timeout(WITHIN, feed.next()).await.unwrap();
        assert_eq!(fed.messages, messages);
        assert_eq!((fed.cursor, fed.lost), (cursors[cursor], lost), "{messages:?}");
        assert_eq!(feed.cursor(), Some(cursors[cursor]));
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
    reads: &mut hyper_deferred::topic::Subscriber<T>,
    again: impl Fn() -> hyper_deferred::topic::Subscriber<T>,
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

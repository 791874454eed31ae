//! What a topic promises to those who poll it from the same process.
#![cfg(feature = "topic")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use hyper_deferred::topic::{Builder, Cursor, CursorSet, Encode, Gap, Raw};
use hyper_deferred::{BoxError, Topic};
use tokio::task::LocalSet;

/// Counts the times that it was woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn assert_is_shared<T: Clone + Send + Sync>(_: &T) {}

#[test]
fn a_topic_is_a_cheap_handle_for_all_threads() {
    let topic = Topic::raw();
    assert_is_shared(&topic);
    assert_eq!(size_of_val(&topic), size_of::<usize>());
    // Not even a value that is not `Clone` or `Debug` is in the way.
    struct Opaque;
    struct Fixed;
    impl Encode<Opaque> for Fixed {
        fn content_type(&self) -> HeaderValue {
            HeaderValue::from_static("text/plain")
        }
        fn encode(&self, _: &Opaque) -> Result<Bytes, BoxError> {
            Ok(Bytes::from_static(b"?"))
        }
        fn join(&self, messages: &[Bytes]) -> Bytes {
            messages.concat().into()
        }
    }
    assert_is_shared(&Builder::new(Fixed).build());
}

#[test]
fn publishing_tells_the_cursor_and_how_many_waited() {
    let topic = Topic::raw();
    let mut first = pin!(topic.poll(topic.latest()));
    let mut second = pin!(topic.poll(topic.latest()));
    assert!(poll_once(first.as_mut()).is_pending());
    assert!(poll_once(second.as_mut()).is_pending());
    let published = topic.publish("one".into()).unwrap();
    assert_eq!(published.waiting, 2);
    assert_eq!(published.cursor, topic.latest());
    let Poll::Ready(batch) = poll_once(first.as_mut()) else { panic!("there is news") };
    assert_eq!(batch.next(), published.cursor);
    assert_eq!(&batch.messages()[0][..], b"one");
    assert!(poll_once(second.as_mut()).is_ready());
    assert_eq!(topic.publish("two".into()).unwrap().waiting, 0);
}

#[test]
fn a_waiter_that_is_dropped_leaves_at_once_though_nobody_publishes() {
    let topic = Topic::raw();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut parked: Vec<_> = (0..1000).map(|_| Box::pin(topic.poll(topic.latest()))).collect();
    for waiting in &mut parked {
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert_eq!(topic.waiting(), 1000);
    let held = Arc::strong_count(&wakes);
    // Out of the middle, as clients leave.
    drop(parked.drain(400..600));
    assert_eq!(topic.waiting(), 800);
    assert_eq!(Arc::strong_count(&wakes), held - 200, "nothing of them is kept");
    drop(parked);
    assert_eq!(topic.waiting(), 0);
    assert_eq!(Arc::strong_count(&wakes), 2);
}

#[test]
fn a_waker_is_replaced_by_the_one_of_the_last_poll() {
    let topic = Topic::raw();
    let (old, new) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
    let mut waiting = pin!(topic.poll(topic.latest()));
    for wakes in [&old, &new] {
        let waker = Waker::from(wakes.clone());
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    topic.publish("one".into()).unwrap();
    assert_eq!((old.count(), new.count()), (0, 1));
}

#[test]
fn one_body_is_built_for_all() {
    struct Counting(Arc<AtomicUsize>);
    impl Encode<Bytes> for Counting {
        fn content_type(&self) -> HeaderValue {
            HeaderValue::from_static("text/plain")
        }
        fn encode(&self, value: &Bytes) -> Result<Bytes, BoxError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(value.clone())
        }
        fn join(&self, messages: &[Bytes]) -> Bytes {
            self.0.fetch_add(1000, Ordering::Relaxed);
            messages.concat().into()
        }
    }
    let calls = Arc::new(AtomicUsize::new(0));
    let topic = Builder::new(Counting(calls.clone())).build();
    let start = topic.latest();
    topic.publish("one".into()).unwrap();
    topic.publish("two".into()).unwrap();
    let bodies: Vec<Bytes> = (0..17_000)
        .map(|_| {
            let Poll::Ready(batch) = poll_once(pin!(topic.poll(start))) else { panic!("there is news") };
            batch.body()
        })
        .collect();
    assert!(bodies.iter().all(|body| body == "onetwo" && body.as_ptr() == bodies[0].as_ptr()));
    assert_eq!(calls.load(Ordering::Relaxed), 1002, "two messages encoded, one body joined");
}

#[test]
fn what_cannot_be_published_comes_back_and_says_why() {
    let topic = Builder::<Bytes>::new(Raw).history_bytes_max(3).build();
    topic.publish("abc".into()).unwrap();
    let error = topic.publish("abcd".into()).unwrap_err();
    assert!(error.to_string().contains("it has 4 bytes and the history holds 3"), "{error}");
    assert_eq!(error.value, "abcd");
    let Poll::Ready(batch) = poll_once(pin!(topic.poll(topic.oldest()))) else { panic!("it is kept") };
    assert_eq!(&batch.messages()[0][..], b"abc", "what was not published pushed nothing out");
}

#[cfg(feature = "json")]
#[test]
fn a_value_that_has_no_json_comes_back_with_the_cause() {
    use std::collections::BTreeMap;
    let topic = Topic::json();
    let error = topic.publish(BTreeMap::from([((1, 2), 3)])).unwrap_err();
    assert_eq!(error.value.len(), 1);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("key must be a string"), "{cause}");
}

#[cfg(feature = "json")]
#[test]
fn json_is_an_array() {
    let topic = Topic::json();
    let start = topic.latest();
    topic.publish("a\"b").unwrap();
    let Poll::Ready(one) = poll_once(pin!(topic.poll(start))) else { panic!("there is news") };
    assert_eq!(one.body(), r#"["a\"b"]"#);
    topic.publish("c").unwrap();
    let Poll::Ready(two) = poll_once(pin!(topic.poll(start))) else { panic!("there is news") };
    assert_eq!(two.body(), r#"["a\"b","c"]"#);
}

#[test]
fn garbage_is_no_cursor() {
    let good = Topic::raw().latest().to_string();
    assert!(good.parse::<Cursor>().is_ok());
    let upper = good.to_uppercase();
    for bad in [
        "",
        ".",
        "latest",
        &good[1..],
        &good[..10],
        &format!("{good}0x"),
        &format!("{good} "),
        &format!("0{good}"),
        &format!("{}.01", &good[..10]),
        &format!("{}.", &good[..10]),
        &format!("{}.g0000000000000", &good[..10]),
        "zzzzzzzzzz.0",
        "aaaaaaaaaä.0",
        &upper[..if upper == good { 0 } else { upper.len() }],
    ] {
        let error = bad.parse::<Cursor>().unwrap_err();
        assert!(error.to_string().starts_with("not a cursor"), "{bad:?}: {error}");
    }
}

#[test]
fn a_cursor_of_another_topic_is_told_to_be_one() {
    let (topic, other) = (Topic::raw(), Topic::raw());
    other.publish("theirs".into()).unwrap();
    let Poll::Ready(batch) = poll_once(pin!(topic.poll(other.latest()))) else { panic!("it must not park") };
    assert_eq!((batch.gap(), batch.messages().len(), batch.next()), (Gap::Unknown, 0, topic.latest()));
    topic.publish("ours".into()).unwrap();
    let Poll::Ready(batch) = poll_once(pin!(topic.poll(other.latest()))) else { panic!("it must not park") };
    assert_eq!((batch.gap(), &batch.messages()[0][..]), (Gap::Unknown, &b"ours"[..]));
}

#[tokio::test(start_paused = true)]
async fn messages_outlive_their_age_for_nobody() {
    let topic = Builder::<Bytes>::new(Raw).history_age_max(Duration::from_secs(10)).build();
    let start = topic.latest();
    topic.publish("one".into()).unwrap();
    tokio::time::advance(Duration::from_secs(6)).await;
    topic.publish("two".into()).unwrap();
    tokio::time::advance(Duration::from_secs(6)).await;
    let batch = topic.poll(start).await;
    assert_eq!((batch.gap(), &batch.messages()[0][..]), (Gap::Missed(1), &b"two"[..]));
    tokio::time::advance(Duration::from_secs(6)).await;
    let batch = topic.poll(start).await;
    assert_eq!((batch.gap(), batch.messages().len()), (Gap::Missed(2), 0), "a gap is told though nothing is left");
    assert_eq!(batch.next(), topic.latest());
}

#[tokio::test]
async fn several_topics_are_waited_for_with_one_cursor() {
    let topics: Vec<Topic<Bytes>> = (0..3).map(|_| Topic::raw()).collect();
    let start: CursorSet = topics.iter().map(Topic::latest).collect();
    let start: CursorSet = start.to_string().parse().unwrap();
    let mut waiting = pin!(Topic::poll_many(&topics, &start).unwrap());
    assert!(poll_once(waiting.as_mut()).is_pending());
    topics[2].publish("c".into()).unwrap();
    topics[0].publish("a".into()).unwrap();
    let many = waiting.as_mut().await;
    assert!(topics.iter().all(|topic| topic.waiting() == 0), "who has been answered waits nowhere");
    let news: Vec<(usize, &[u8])> = many.batches.iter().map(|(n, batch)| (*n, &batch.messages()[0][..])).collect();
    assert_eq!(news, [(0, &b"a"[..]), (2, b"c")]);
    let expected: CursorSet = topics.iter().map(Topic::latest).collect();
    assert_eq!(many.next, expected);

    let mut waiting = Box::pin(Topic::poll_many(&topics, &many.next).unwrap());
    assert!(poll_once(waiting.as_mut()).is_pending());
    assert!(topics.iter().all(|topic| topic.waiting() == 1));
    drop(waiting);
    assert!(topics.iter().all(|topic| topic.waiting() == 0), "it leaves all of them at once");
}

#[test]
fn as_many_cursors_as_topics_are_needed() {
    let topics = [Topic::raw(), Topic::raw()];
    let one: CursorSet = [topics[0].latest()].into_iter().collect();
    let error = Topic::poll_many(&topics, &one).unwrap_err();
    assert!(error.to_string().contains("2 topics were polled with 1 cursors"), "{error}");
    let many: Vec<_> = (0..65).map(|_| topics[0].clone()).collect();
    let cursors = many.iter().map(Topic::latest).collect();
    assert!(Topic::poll_many(&many, &cursors).is_err());
    assert!("nonsense~".parse::<CursorSet>().is_err());
}

#[test]
fn a_publisher_on_the_loop_lets_others_have_turns() {
    const WAITERS: usize = 17_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let topic = Topic::raw();
    let (done, in_one_turn) = (Rc::new(Cell::new(0_usize)), Rc::new(Cell::new(0_usize)));
    let local = LocalSet::new();
    for _ in 0..WAITERS {
        let (waiting, done) = (topic.poll(topic.latest()), done.clone());
        local.spawn_local(async move {
            waiting.await;
            done.set(done.get() + 1);
        });
    }
    local.block_on(&runtime, async {
        while topic.waiting() < WAITERS {
            tokio::task::yield_now().await;
        }
        let (counted, most) = (done.clone(), in_one_turn.clone());
        let watch = tokio::task::spawn_local(async move {
            let mut last = 0;
            while last < WAITERS {
                tokio::task::yield_now().await;
                let now = counted.get();
                most.set(most.get().max(now - last));
                last = now;
            }
        });
        assert_eq!(topic.publish("one".into()).unwrap().waiting, WAITERS);
        assert_eq!(done.get(), 0, "nobody ran inside of `publish`");
        watch.await.unwrap();
    });
    assert_eq!(done.get(), WAITERS);
    assert!(in_one_turn.get() <= 256, "{} waiters were served in one turn", in_one_turn.get());
}

#[test]
fn a_crowd_is_woken_where_no_runtime_is() {
    let topic = Topic::raw();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut parked: Vec<_> = (0..1000).map(|_| Box::pin(topic.poll(topic.latest()))).collect();
    for waiting in &mut parked {
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    topic.publish("one".into()).unwrap();
    assert_eq!(wakes.count(), 1000);
}

/// The task that wakes the rest dies with its runtime, and those who wait elsewhere are woken all the same.
#[test]
fn a_crowd_is_woken_though_the_runtime_of_the_first_ends() {
    let topic = Topic::raw();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut parked: Vec<_> = (0..1000).map(|_| Box::pin(topic.poll(topic.latest()))).collect();
    for waiting in &mut parked {
        let _entered = runtime.enter();
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    topic.publish("one".into()).unwrap();
    assert!(wakes.count() < 1000, "the rest is left to a task");
    drop(runtime);
    assert_eq!(wakes.count(), 1000);
}

/// A runtime that nobody drives at the moment cannot wake anyone: those who were woken do.
#[test]
fn a_crowd_is_woken_by_itself_though_the_runtime_of_the_first_stands_still() {
    let topic = Topic::raw();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut parked: Vec<_> = (0..1000).map(|_| Box::pin(topic.poll(topic.latest()))).collect();
    for waiting in &mut parked {
        let _entered = runtime.enter();
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    topic.publish("one".into()).unwrap();
    let mut served = 0;
    while served < 1000 {
        let woken = wakes.count();
        assert!(woken > served, "{served} were served and nobody else is woken");
        for waiting in &mut parked[served..woken] {
            assert!(poll_once(waiting.as_mut()).is_ready());
        }
        served = woken;
    }
}

#[test]
fn threads_publish_and_wait_at_once() {
    const PUBLISHERS: usize = 4;
    const MESSAGES: usize = 500;
    let topic = Builder::<Bytes>::new(Raw).history_count_max(PUBLISHERS * MESSAGES).build();
    let start = topic.latest();
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let topic = topic.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let mut reader = topic.subscribe(start);
                    let mut read = Vec::new();
                    while read.len() < PUBLISHERS * MESSAGES {
                        let batch = reader.next().await;
                        assert_eq!(batch.gap(), Gap::None);
                        read.extend(batch.messages().iter().map(|message| Bytes::clone(message)));
                    }
                    read
                })
            })
        })
        .collect();
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let topic = topic.clone();
            std::thread::spawn(move || {
                for n in 0..MESSAGES {
                    topic.publish(format!("{publisher} {n}").into()).unwrap();
                }
            })
        })
        .collect();
    publishers.into_iter().for_each(|thread| thread.join().unwrap());
    let read: Vec<Vec<Bytes>> = readers.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(read.iter().all(|other| *other == read[0]), "all see one order");
    for publisher in 0..PUBLISHERS {
        let prefix = format!("{publisher} ");
        let own: Vec<String> = read[0]
            .iter()
            .filter_map(|text| Some(std::str::from_utf8(text).ok()?.strip_prefix(&prefix)?.to_owned()))
            .collect();
        let sent: Vec<String> = (0..MESSAGES).map(|n| n.to_string()).collect();
        assert_eq!(own, sent, "the order of each publisher is kept");
    }
}

//! Topics by name: found, bounded, and gone when nobody uses them.
#![cfg(feature = "topic")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::future::Future;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use hyper_deferred::Topics;
use hyper_deferred::topic::{Builder, Gap, Raw};

const AGE: Duration = Duration::from_secs(60);

fn topics(topics_max: usize) -> Topics<Bytes> {
    Builder::new(Raw).registry(topics_max, AGE)
}

/// On the paused clock, which moves from one timer to the next.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn a_name_is_one_topic() {
    let topics = topics(10);
    assert!(topics.get("a").is_none());
    topics.open("a").unwrap().publish("one".into()).unwrap();
    let again = topics.get("a").unwrap();
    assert_eq!(again.poll(again.oldest()).await.messages().len(), 1);
    assert_eq!(topics.len(), 1);
    assert_eq!(topics.open("b").unwrap().waiting(), 0);
    assert_eq!(topics.len(), 2);
    assert!(topics.remove("a").is_some());
    assert!(topics.remove("a").is_none());
    assert_eq!(topics.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn there_are_not_more_than_there_may_be() {
    let topics = topics(100);
    let held: Vec<_> = (0..100).map(|n| topics.open(&n.to_string()).unwrap()).collect();
    let error = topics.open("one more").unwrap_err();
    assert!(error.to_string().contains("100 topics already"), "{error}");
    assert!(topics.open("7").is_ok(), "those that are there can be opened");
    topics.remove("7").unwrap();
    assert!(topics.open("one more").is_ok());
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn an_unused_topic_goes_when_its_age_has_come() {
    let topics = topics(1000);
    let held = topics.open("held").unwrap();
    let waited = topics.open("waited").unwrap();
    let mut waiting = Box::pin(waited.poll(waited.latest()));
    drop(waited);
    assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    for n in 0..500 {
        topics.open(&n.to_string()).unwrap();
    }
    pass(AGE / 2).await;
    assert_eq!(topics.len(), 502);
    topics.get("1").unwrap().publish("still used".into()).unwrap();
    pass(AGE * 4 / 5).await;
    assert_eq!(topics.len(), 3, "held, waited for, and used not long ago");
    drop((held, waiting));
    pass(AGE * 3 / 2).await;
    assert!(topics.is_empty());
    // The task that looked for them has ended; it begins anew.
    topics.open("late").unwrap();
    pass(AGE * 3 / 2).await;
    assert!(topics.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_away_begins_a_new_life() {
    let topics = topics(10);
    let topic = topics.open("a").unwrap();
    topic.publish("one".into()).unwrap();
    let cursor = topic.latest();
    drop(topic);
    pass(AGE * 3 / 2).await;
    let batch = topics.open("a").unwrap().poll(cursor).await;
    assert_eq!(batch.gap(), Gap::Unknown);
}

#[test]
fn a_full_registry_makes_room_where_no_task_does() {
    // Outside of a runtime: nobody but the one who opens looks for unused topics.
    let topics = Builder::<Bytes>::new(Raw).registry(1, Duration::ZERO);
    for n in 0..10 {
        topics.open("same").unwrap();
        topics.remove("same").unwrap();
        let held = topics.open(&n.to_string()).unwrap();
        assert!(topics.open("other").is_err());
        drop(held);
        topics.remove(&n.to_string()).unwrap();
    }
}

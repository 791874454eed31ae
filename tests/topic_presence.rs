//! Who is present, between two polls too.
#![cfg(feature = "topic")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_deferred::topic::PresenceChange::{Joined, Left};
use hyper_deferred::topic::{Presence, PresenceChange};

const WINDOW: Duration = Duration::from_secs(10);

type Changes = Arc<Mutex<Vec<PresenceChange<&'static str>>>>;

fn presence(present_max: usize) -> (Presence<&'static str>, Changes) {
    let changes = Changes::default();
    let told = changes.clone();
    (Presence::new(WINDOW, present_max, move |change| told.lock().unwrap().push(change)), changes)
}

/// On the paused clock, which moves from one timer to the next.
async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn take(changes: &Changes) -> Vec<PresenceChange<&'static str>> {
    std::mem::take(&mut changes.lock().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_client_is_present_between_two_polls() {
    let (presence, changes) = presence(10);
    for _ in 0..5 {
        let here = presence.enter("ada").unwrap();
        pass(25).await;
        drop(here);
        pass(9).await;
        assert!(presence.contains(&"ada"));
    }
    assert_eq!(take(&changes), [Joined("ada")]);
    pass(2).await;
    assert_eq!(take(&changes), [Left("ada")]);
    assert!(presence.all().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_last_request_of_a_client_counts() {
    let (presence, changes) = presence(10);
    let (one, two) = (presence.enter("ada").unwrap(), presence.enter("ada").unwrap());
    drop(one);
    pass(20).await;
    assert!(presence.contains(&"ada"));
    drop(two);
    pass(11).await;
    assert_eq!(take(&changes), [Joined("ada"), Left("ada")]);
}

#[tokio::test(start_paused = true)]
async fn who_has_left_may_join_again_and_windows_end_in_their_order() {
    let (presence, changes) = presence(10);
    let _ = presence.enter("ada").unwrap();
    pass(5).await;
    let _ = presence.enter("bob").unwrap();
    pass(4).await;
    // Comes back in time: the window begins anew, behind that of the other.
    let _ = presence.enter("ada").unwrap();
    pass(7).await;
    assert_eq!(take(&changes), [Joined("ada"), Joined("bob"), Left("bob")]);
    pass(4).await;
    assert_eq!(take(&changes), [Left("ada")]);
    let _ = presence.enter("ada").unwrap();
    assert_eq!(take(&changes), [Joined("ada")]);
    pass(11).await;
    assert_eq!(take(&changes), [Left("ada")]);
}

#[tokio::test(start_paused = true)]
async fn a_crowd_leaves_within_its_window() {
    let changes = Arc::new(Mutex::new(0));
    let told = changes.clone();
    let presence = Presence::new(WINDOW, 1000, move |change| {
        *told.lock().unwrap() += if matches!(change, Joined(_)) { 1 } else { -1 };
    });
    drop((0..1000).map(|n| presence.enter(n).unwrap()).collect::<Vec<_>>());
    assert_eq!(*changes.lock().unwrap(), 1000);
    pass(11).await;
    assert_eq!(*changes.lock().unwrap(), 0);
    assert!(presence.all().is_empty());
}

#[tokio::test(start_paused = true)]
async fn there_are_not_more_present_than_may_be() {
    let (presence, changes) = presence(1);
    let here = presence.enter("ada").unwrap();
    let error = presence.enter("bob").unwrap_err();
    assert!(error.to_string().contains("1 are present already"), "{error}");
    let again = presence.enter("ada").unwrap();
    drop((here, again));
    pass(11).await;
    let _here = presence.enter("bob").unwrap();
    assert_eq!(take(&changes), [Joined("ada"), Left("ada"), Joined("bob")]);
}

#[tokio::test(start_paused = true)]
async fn being_told_may_ask_who_is_here() {
    let asked: Arc<Mutex<Option<Presence<u8>>>> = Arc::default();
    let (told, seen) = (asked.clone(), Arc::new(Mutex::new(Vec::new())));
    let all = seen.clone();
    let presence = Presence::new(WINDOW, 10, move |_| {
        let presence = told.lock().unwrap().clone().unwrap();
        all.lock().unwrap().push(presence.all().len());
    });
    *asked.lock().unwrap() = Some(presence.clone());
    let _here = presence.enter(1).unwrap();
    let _here = presence.enter(2).unwrap();
    assert_eq!(*seen.lock().unwrap(), [1, 2]);
}

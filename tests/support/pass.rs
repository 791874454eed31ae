//! The paused clock, and those who wait on it.

use std::time::Duration;

/// More tasks than stand between a timer of the runtime and the one that it is for.
const TURNS: usize = 4;

/// Lets the time pass, and everyone have a turn whom that wakes.
pub async fn pass(time: Duration) {
    tokio::time::advance(time).await;
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}

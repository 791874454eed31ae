//! Topics between processes: one goes out through a PUB socket, others are fed from SUB sockets.
//!
//! A [`Publisher`] sends what comes on a topic, with the [`Cursor`] before and after it; a [`Feed`] gives what comes and
//! tells from these what was lost on the way, as PUB and SUB may: they hold nothing for who is not connected, or too slow.
//!
//! A topic that is [fed](Feed::feed) takes its source's cursors over. A client may read at the source, go on at any topic
//! that is fed from it, and come back: it gets exactly what comes after its cursor, or is told the [gap](crate::topic::Gap).
//!
//! ```
//! use bytes::Bytes;
//! use hyper_deferred::Topic;
//! use hyper_deferred::zeromq::{Feed, Publisher};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let publisher = Publisher::bind("tcp://127.0.0.1:*")?;
//! let mut feed = Feed::connect(publisher.endpoint(), "news")?;
//!
//! let source = Topic::raw();
//! let mut reads = source.subscribe(source.latest());
//! tokio::spawn(async move { publisher.publish("news", &mut reads).await });
//!
//! let fed = Topic::raw();
//! tokio::spawn(feed.feed(&fed));
//! // Before anything has come, whoever polls waits, whatever the cursor.
//! let heard = fed.poll(source.oldest());
//! # tokio::spawn(async move { loop {
//! #     source.publish(Bytes::from("hello")).unwrap();
//! #     tokio::time::sleep(std::time::Duration::from_millis(1)).await;
//! # } });
//! # // The first ones are lost: nobody is connected yet.
//! assert_eq!(heard.await.messages()[0].encoded(), "hello");
//! # Ok::<_, hyper_deferred::zeromq::Error>(()) }).unwrap();
//! ```

mod feed;
mod publisher;

pub use feed::{Fed, Feed};
pub use publisher::Publisher;

use std::str::FromStr;

use bytes::Bytes;

use super::frames::Frames;
use crate::topic::Cursor;

/// What goes through the sockets: the name, two cursors, and the messages as their topic has encoded them.
struct Parcel {
    name: Bytes,
    /// Where the messages begin.
    begins: Cursor,
    /// The publisher could not read what was before them any more.
    behind_gap: bool,
    messages: Vec<Bytes>,
}

/// The frames of a parcel, but for its messages.
const PARCEL_HEAD_FRAMES: usize = 3;

/// A parcel of more messages is not taken: as many as the largest batches that anybody would set.
const PARCEL_MESSAGES_MAX: usize = 4096;

impl Parcel {
    /// Where the source is behind its messages.
    fn ends(&self) -> Cursor {
        self.begins.behind(self.messages.len() as u64)
    }

    fn encode(self) -> Frames {
        let before = if self.behind_gap { Bytes::new() } else { Bytes::from(self.begins.to_string()) };
        let after = Bytes::from(self.ends().to_string());
        [self.name, before, after].into_iter().chain(self.messages).collect()
    }

    /// `None` for what is no parcel.
    fn decode(mut frames: Frames) -> Option<Self> {
        if frames.len() < PARCEL_HEAD_FRAMES || frames.len() > PARCEL_HEAD_FRAMES + PARCEL_MESSAGES_MAX {
            return None;
        }
        let messages = frames.split_off(PARCEL_HEAD_FRAMES);
        let cursor = |frame: &Bytes| Cursor::from_str(std::str::from_utf8(frame).ok()?).ok();
        // A topic's messages are numbered without a hole.
        let begins = cursor(&frames[2])?.before(messages.len() as u64)?;
        let behind_gap = frames[1].is_empty();
        if !behind_gap && cursor(&frames[1])? != begins {
            return None;
        }
        Some(Self { name: frames.swap_remove(0), begins, behind_gap, messages })
    }
}

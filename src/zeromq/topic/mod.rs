//! Topics between processes: one goes out through a PUB socket, others are fed from SUB sockets.
//!
//! A [`Publisher`] sends what comes on a topic, with the [`Cursor`] before and after it; a [`Feed`] gives what comes and
//! can tell from these whether something was lost on the way, as PUB and SUB may: they hold nothing for who is not
//! connected, or too slow. Each end keeps its cursor, so that it says where it is: the publisher's goes on where a former
//! one stopped, the feed's is the source's, not that of the topic which is fed.
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
//! let heard = fed.poll(fed.latest());
//! let fed = fed.clone();
//! tokio::spawn(async move { feed.feed(&fed).await });
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
    /// Where the messages begin; `None` after some that the publisher could not read any more.
    before: Option<Cursor>,
    after: Cursor,
    messages: Vec<Bytes>,
}

/// The frames of a parcel, but for its messages.
const PARCEL_HEAD_FRAMES: usize = 3;

/// A parcel of more messages is not taken: as many as the largest batches that anybody would set.
const PARCEL_MESSAGES_MAX: usize = 4096;

impl Parcel {
    fn encode(self) -> Frames {
        let before = self.before.map_or_else(Bytes::new, |before| Bytes::from(before.to_string()));
        let head = [self.name, before, Bytes::from(self.after.to_string())];
        head.into_iter().chain(self.messages).collect()
    }

    /// `None` for what is no parcel.
    fn decode(mut frames: Frames) -> Option<Self> {
        if frames.len() < PARCEL_HEAD_FRAMES || frames.len() > PARCEL_HEAD_FRAMES + PARCEL_MESSAGES_MAX {
            return None;
        }
        let messages = frames.split_off(PARCEL_HEAD_FRAMES);
        let cursor = |frame: &Bytes| Cursor::from_str(std::str::from_utf8(frame).ok()?).ok();
        let before = if frames[1].is_empty() { None } else { Some(cursor(&frames[1])?) };
        let after = cursor(&frames[2])?;
        Some(Self { name: frames.swap_remove(0), before, after, messages })
    }
}

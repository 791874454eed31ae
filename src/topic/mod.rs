//! Publish and subscribe for requests that wait: nothing is lost between two polls.
//!
//! A [`Topic`] keeps what was published lately. A reader asks with the [`Cursor`] that the last answer gave it: what is
//! newer comes at once, in a [`Batch`]; when there is nothing newer the request waits for it. Should the reader have been
//! away for so long that messages have left the history, the batch [says how many](Gap).
//!
//! ```
//! use bytes::Bytes;
//! use hyper_deferred::Topic;
//! use hyper_deferred::topic::Gap;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let topic = Topic::raw();
//! let start = topic.latest();
//! let waiting = topic.poll(start);
//! topic.publish(Bytes::from("one")).unwrap();
//! topic.publish(Bytes::from("two")).unwrap();
//!
//! let batch = waiting.await;
//! assert_eq!(&batch.messages()[0][..], b"one");
//! assert_eq!(batch.gap(), Gap::None);
//! let batch = topic.poll(batch.next()).await;
//! assert_eq!(&batch.messages()[0][..], b"two");
//! # });
//! ```
//!
//! [`http`] serves a topic over HTTP: long polling and server-sent events at the same URL.
//!
//! # Compared with a broadcast channel
//!
//! A [`broadcast`](tokio::sync::broadcast) channel holds messages for receivers that exist. A long-poll client does not
//! exist between two polls, so that each server would have to keep a receiver for clients that may never return, or
//! lose what comes in between. Here the place is the client's: a topic holds nothing for those who are away.
//!
//! # What happens on drop
//!
//! | dropped | what follows |
//! |---|---|
//! | [`Waiting`], [`Subscriber`], [`WaitingMany`] | it leaves the topic at once; nothing is lost, the cursor still stands |
//! | the last [`Topic`] handle | the history goes; one who waits holds a handle |
//! | [`Topics`] | its topics go, but for those that someone holds |

pub mod http;

mod cursor;
mod encode;
mod fed;
mod handle;
mod history;
mod many;
mod message;
mod presence;
mod published;
mod registry;
mod settings;
mod subscriber;
mod waiters;

pub use cursor::{Cursor, ParseCursorError};
#[cfg(feature = "json")]
pub use encode::Json;
pub use encode::{Encode, Raw};
pub use handle::Topic;
pub use many::{CursorCountError, CursorSet, ManyBatch, WaitingMany};
pub use message::{Batch, Gap, Message};
pub use presence::{Here, Presence, PresenceChange, PresenceFull, PresenceKey};
pub use published::{PublishError, Published};
pub use registry::{Topics, TopicsFull};
pub use settings::Builder;
pub use subscriber::{Subscriber, Waiting};

//! The receiving end.

use std::convert::Infallible;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{PARCEL_HEAD_FRAMES, PARCEL_MESSAGES_MAX, Parcel};
use crate::topic::{Cursor, Topic};
use crate::zeromq::error::Error;
use crate::zeromq::frames::Frames;
use crate::zeromq::settings::{LINGER_MS, RECEIVE_HIGH_WATER, Settings};
use crate::zeromq::socket::{self, Commander, Machine, Unsent};

/// Receives what a [`Publisher`](super::Publisher) publishes under one name.
///
/// A thread of its own keeps the socket, which connects again when it has to.
///
/// # What happens on drop
///
/// The socket is closed. What it had received and was not taken is dropped.
pub struct Feed {
    received: mpsc::Receiver<Parcel>,
    commander: Commander<Stop>,
    cursor: Option<Cursor>,
}

/// What came at once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fed {
    /// The messages as the source has encoded them, oldest first.
    pub messages: Vec<Bytes>,
    /// Where the source was behind them.
    pub cursor: Cursor,
    /// Whether something between the former messages and these was lost: the feed was too slow, was not connected, or
    /// the source has begun anew. Nobody can tell before the first ones.
    pub lost: bool,
}

/// What was received and not taken. Past it messages are lost, which is told; a feed that is never behind for long does
/// not need more, and one that is would need more without end.
const PARCELS_AHEAD_MAX: usize = 1024;

/// How soon a publisher whose host has gone without a word is noticed: within three of these.
const HEARTBEAT: Duration = Duration::from_secs(1);

struct Stop;

struct Receives {
    name: Bytes,
    parcels: mpsc::Sender<Parcel>,
    stopping: bool,
}

// ===== impl Feed =====

impl Feed {
    /// Connects to a publisher. One that is not there, or goes, is waited for.
    ///
    /// # Errors
    ///
    /// When the endpoint is none, or no thread or socket can be had.
    pub fn connect(endpoint: &str, name: &str) -> Result<Self, Error> {
        let failed = |error| Error::new(format!("connecting a feed to {endpoint} failed"), error);
        let socket = subscriber(name).map_err(failed)?;
        socket.connect(endpoint).map_err(failed)?;
        let thread_failed = |error| Error::new("starting the thread for a feed failed", error);
        let (commander, mailbox) = socket::mailbox().map_err(thread_failed)?;
        let (parcels, received) = mpsc::channel(PARCELS_AHEAD_MAX);
        let receives = Receives { name: Bytes::copy_from_slice(name.as_bytes()), parcels, stopping: false };
        socket::spawn("zeromq-feed", socket, mailbox, receives).map_err(thread_failed)?;
        Ok(Self { received, commander, cursor: None })
    }

    /// What comes next.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing has been taken when it is dropped before it is ready.
    pub async fn next(&mut self) -> Fed {
        let Some(parcel) = self.received.recv().await else {
            // The thread has panicked: nothing ever comes again.
            return std::future::pending().await;
        };
        let lost = self.cursor.is_some_and(|cursor| parcel.before != Some(cursor));
        self.cursor = Some(parcel.after);
        Fed { messages: parcel.messages, cursor: parcel.after, lost }
    }

    /// Where the source was behind the last messages that were taken.
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// Publishes whatever comes in `topic`. Never resolves.
    ///
    /// The topic has cursors of its own. What was lost on the way is logged, as is a message that the topic does not
    /// take.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was taken has been published.
    pub async fn feed(&mut self, topic: &Topic<Bytes>) -> Infallible {
        loop {
            let Fed { messages, cursor, lost } = self.next().await;
            if lost {
                tracing::warn!(%cursor, "messages of a topic were lost on the way");
            }
            for message in messages {
                if let Err(error) = topic.publish(message) {
                    tracing::warn!(%error, "a message that came for a topic was dropped");
                }
            }
        }
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let _thread_has_ended = self.commander.command(Stop);
    }
}

fn subscriber(name: &str) -> Result<zmq::Socket, zmq::Error> {
    let socket = socket::context().socket(zmq::SUB)?;
    socket.set_maxmsgsize(i64::try_from(Settings::default().frame_bytes_max).unwrap_or(i64::MAX))?;
    socket.set_rcvhwm(RECEIVE_HIGH_WATER)?;
    socket.set_linger(LINGER_MS)?;
    socket::set_heartbeat(&socket, HEARTBEAT)?;
    // By prefix, so that what comes is looked at again.
    socket.set_subscribe(name.as_bytes())?;
    Ok(socket)
}

// ===== impl Receives =====

impl Machine for Receives {
    type Command = Stop;

    // One more than is taken, so that a longer one is told from the longest.
    const FRAMES_MAX: usize = PARCEL_HEAD_FRAMES + PARCEL_MESSAGES_MAX + 1;

    fn command(&mut self, Stop: Stop, _now: Instant) {
        self.stopping = true;
    }

    fn received(&mut self, frames: Frames, _now: Instant) {
        match Parcel::decode(frames) {
            Some(parcel) if parcel.name == self.name => {
                // Full: the next one that is taken shows that this one is missing.
                let _too_slow = self.parcels.try_send(parcel);
            }
            Some(_another_with_this_prefix) => {}
            None => tracing::warn!("a message for a feed was dropped: it is not of a publisher"),
        }
    }

    fn tick(&mut self, _now: Instant) -> Option<Instant> {
        None
    }

    fn outgoing(&mut self) -> Option<Frames> {
        None
    }

    fn unsent(&mut self, _frames: Frames, _why: Unsent, _now: Instant) {}

    fn is_over(&self) -> bool {
        self.stopping
    }
}

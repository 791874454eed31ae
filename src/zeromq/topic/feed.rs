//! The receiving end.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{PARCEL_HEAD_FRAMES, PARCEL_MESSAGES_MAX, Parcel};
use crate::BoxError;
use crate::topic::{Cursor, Gap, Topic};
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
    /// Where they begin at the source.
    pub begins: Cursor,
    /// Where the source was behind them.
    pub cursor: Cursor,
    /// What was lost between the former messages and these: the feed was too slow or was not connected, or, if nobody can
    /// tell how many, the source has begun anew. Nobody can tell before the first ones either, unless they are the first
    /// of the source's life.
    pub gap: Gap,
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
        let gap = parcel.begins.gap_from(self.cursor);
        self.cursor = Some(parcel.ends());
        Fed { begins: parcel.begins, cursor: parcel.ends(), messages: parcel.messages, gap }
    }

    /// Where the source was behind the last messages that were taken.
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// Publishes whatever comes in `topic`, under the cursors that it has at the source. Never resolves.
    ///
    /// A cursor that a client got from the source, or from another topic fed by it, holds for this topic: it gets exactly
    /// what comes after it, as far as that is in this topic's history. A client that is ahead of what has come waits for
    /// it; until anything has come that is everybody.
    ///
    /// When messages were lost on the way the history begins anew behind them, so that a reader is told how many are
    /// missing. A source that has begun anew is told as a topic that has: as [`Gap::Unknown`]. Both are logged, as is a
    /// message that the topic does not take, which is then missing.
    ///
    /// From this call on, before the future is polled, nothing else can be published in `topic`: it is an
    /// [error](crate::topic::PublishError). What was in it is gone as soon as something comes.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was taken has been published. Another feed may go on with the same topic.
    pub fn feed(self, topic: &Topic<Bytes>) -> impl Future<Output = Infallible> + Send + use<> {
        self.feed_with(topic, Ok)
    }

    /// [`feed`](Self::feed) for a topic of other values than bytes. A message that `decode` refuses is logged, and is
    /// missing.
    ///
    /// The topic encodes each value anew: clients at both ends get the same bytes if it does so as the source does.
    pub fn feed_with<T, F>(
        mut self,
        topic: &Topic<T>,
        mut decode: F,
    ) -> impl Future<Output = Infallible> + Send + use<T, F>
    where
        T: Send + Sync + 'static,
        F: FnMut(Bytes) -> Result<T, BoxError> + Send,
    {
        topic.set_fed();
        let topic = topic.clone();
        async move {
            loop {
                let is_first = self.cursor.is_none();
                let Fed { messages, begins, gap, .. } = self.next().await;
                if gap != Gap::None && !is_first {
                    tracing::warn!(%begins, ?gap, "messages of a topic were lost on the way");
                }
                for (n, message) in (0..).zip(messages) {
                    relay(&topic, begins.behind(n), decode(message));
                }
            }
        }
    }
}

fn relay<T: Send + Sync + 'static>(topic: &Topic<T>, at: Cursor, decoded: Result<T, BoxError>) {
    let relayed = decoded.and_then(|value| topic.relay(at, value).map_err(|error| error.to_string().into()));
    if let Err(error) = relayed {
        tracing::warn!(%at, %error, "a message that came for a topic was dropped");
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

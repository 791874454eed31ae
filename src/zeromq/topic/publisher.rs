//! The sending end.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Parcel;
use crate::topic::{Gap, Subscriber};
use crate::zeromq::error::Error;
use crate::zeromq::frames::Frames;
use crate::zeromq::settings::{LINGER_MS, SEND_HIGH_WATER};
use crate::zeromq::socket::{self, Commander, Machine, Unsent};

/// Publishes topics through a PUB socket, each under a name.
///
/// A thread of its own keeps the socket. Cheap to clone.
///
/// # What happens on drop
///
/// When the last one goes, what was given to the socket is still sent, and it is closed.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    commander: Commander<Outgoing>,
    room: Arc<Semaphore>,
    endpoint: String,
}

/// A batch of one topic is small beside this, and the socket's thread sends in microseconds: enough to keep it busy.
const BATCHES_AHEAD_MAX: usize = 64;

enum Outgoing {
    Parcel(Frames, OwnedSemaphorePermit),
    Stop,
}

#[derive(Default)]
struct Sends {
    outgoing: VecDeque<(Frames, OwnedSemaphorePermit)>,
    stopping: bool,
}

// ===== impl Publisher =====

impl Publisher {
    /// Binds an endpoint for [feeds](super::Feed), and any other SUB sockets, to connect to.
    ///
    /// # Errors
    ///
    /// When the endpoint cannot be bound, or no thread or socket can be had.
    pub fn bind(endpoint: &str) -> Result<Self, Error> {
        let failed = |error: zmq::Error| Error::new(format!("binding {endpoint} for a publisher failed"), error);
        let socket = publisher().map_err(failed)?;
        socket.bind(endpoint).map_err(failed)?;
        let bound = socket.get_last_endpoint().map_err(failed)?.unwrap_or_else(|_| endpoint.to_owned());
        let thread_failed = |error| Error::new("starting the thread for a publisher failed", error);
        let (commander, mailbox) = socket::mailbox().map_err(thread_failed)?;
        socket::spawn("zeromq-publish", socket, mailbox, Sends::default()).map_err(thread_failed)?;
        let room = Arc::new(Semaphore::new(BATCHES_AHEAD_MAX));
        Ok(Self { shared: Arc::new(Shared { commander, room, endpoint: bound }) })
    }

    /// Where feeds connect to: as it was bound, with a wildcard filled in.
    pub fn endpoint(&self) -> &str {
        &self.shared.endpoint
    }

    /// Publishes what `subscriber` reads, under `name`, from its cursor on. Never resolves.
    ///
    /// Each batch is one message, of these frames: the name, the cursor before it (empty when messages had left the
    /// topic's history before they were read), the cursor behind it, and the encoded messages. Two topics must not have
    /// the same name: a feed would take each for a new life of the other.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the subscriber's cursor is where to go on, with this publisher or another, and nothing that was read
    /// is not sent.
    pub async fn publish<T>(&self, name: &str, subscriber: &mut Subscriber<T>) -> Infallible {
        let name = Bytes::copy_from_slice(name.as_bytes());
        loop {
            // Room first: a batch that was read is sent without another wait between.
            let room = self.shared.room.clone().acquire_owned().await.expect("it is never closed");
            let batch = subscriber.next().await;
            let parcel = Parcel {
                name: name.clone(),
                begins: batch.begins(),
                behind_gap: batch.gap() != Gap::None,
                messages: batch.messages().iter().map(|message| message.encoded().clone()).collect(),
            };
            let _thread_has_ended = self.shared.commander.command(Outgoing::Parcel(parcel.encode(), room));
        }
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("endpoint", &self.endpoint()).finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _thread_has_ended = self.commander.command(Outgoing::Stop);
    }
}

fn publisher() -> Result<zmq::Socket, zmq::Error> {
    // As PUB, but for that it may be read: subscriptions come in, and are dropped here.
    let socket = socket::context().socket(zmq::XPUB)?;
    socket.set_sndhwm(SEND_HIGH_WATER)?;
    socket.set_linger(LINGER_MS)?;
    Ok(socket)
}

// ===== impl Sends =====

impl Machine for Sends {
    type Command = Outgoing;

    fn command(&mut self, command: Outgoing, _now: Instant) {
        match command {
            Outgoing::Parcel(frames, room) => self.outgoing.push_back((frames, room)),
            Outgoing::Stop => self.stopping = true,
        }
    }

    fn received(&mut self, _subscription: Frames, _now: Instant) {}

    fn tick(&mut self, _now: Instant) -> Option<Instant> {
        None
    }

    fn outgoing(&mut self) -> Option<Frames> {
        self.outgoing.pop_front().map(|(frames, _room)| frames)
    }

    fn unsent(&mut self, _frames: Frames, _why: Unsent, _now: Instant) {
        // Logged where it happened. Feeds see that something is missing.
    }

    fn is_over(&self) -> bool {
        self.stopping && self.outgoing.is_empty()
    }
}

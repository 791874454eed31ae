//! The loop: accepts, events, wakes and deadlines, in slices and in turn.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Token};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep};

use super::super::ShutdownResponse;
use super::super::shutdown::Drain;
use super::super::stats::Counters;
use super::super::workers::Share;
use super::accept::Accept;
use super::engine::Vacant;
use super::entries::Entries;
use super::graduate::{Back, Home, Returned};
use super::reactor;
use super::ready::{Registration, Taken};
use super::serve::Held;
use super::wheel::{Tick, Wheel};
use super::{Answer, App};
use crate::deferred::Outcome;
use crate::server::conn::settings::{Settings, Wait};
use crate::timer::Alarm;

/// How many of one kind are served before it is the others' turn: some 32 times 10 µs. Who has just been accepted waits
/// for two turns, which `cargo bench --bench fair` shows.
const SLICE: usize = 32;

const LISTENER: Token = Token(usize::MAX);

/// All connections of one thread.
pub(super) struct Worker<S: App> {
    pub(super) service: Rc<S>,
    pub(super) settings: Arc<Settings>,
    pub(super) entries: Entries<Answer<S>>,
    pub(super) wheel: Wheel,
    pub(super) registration: Registration,
    pub(super) home: Rc<Home<S>>,
    pub(super) drain: Drain,
    pub(super) shutdown_response: ShutdownResponse,
    /// A hyper that no connection has.
    pub(super) vacant: Option<Vacant<S>>,
    /// The time at the beginning of the turn.
    pub(super) now: Alarm,
    share: Share,
    poll: AsyncFd<mio::Poll>,
    events: mio::Events,
    accept: Option<Accept>,
    sleep: Pin<Box<Sleep>>,
    // Taken from where they come in, and not looked at yet.
    woken: Taken,
    due: Vec<u32>,
    returned: Vec<Returned<S>>,
    // While it drains: the next key to be looked at.
    draining: Option<u32>,
    slab_bytes: u64,
}

/// Accepts and serves until `stop` resolves, and then until every connection has ended.
pub(in super::super) async fn serve<S: App>(
    listener: socket2::Socket,
    service: S,
    share: Share,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let watched = share.config.watched();
    let mut worker = Worker::new(listener, service, share)?;
    let mut stop = pin!(stop);
    let mut deadline = pin!(None::<Sleep>);
    poll_fn(|cx| {
        if worker.draining.is_none() && stop.as_mut().poll(cx).is_ready() {
            worker.begin_drain();
            deadline.set(Some(tokio::time::sleep(worker.share.config.shutdown_timeout)));
        }
        let overdue = deadline.as_mut().as_pin_mut().is_some_and(|deadline| deadline.poll(cx).is_ready());
        if overdue {
            deadline.set(None);
            worker.close();
        }
        watched.turn(|| worker.poll_turn(cx))
    })
    .await
}

// ===== impl Worker =====

impl<S: App> Worker<S> {
    fn new(listener: socket2::Socket, service: S, share: Share) -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let home = Rc::new(Home::new(poll.registry().try_clone()?, share.counters.clone()));
        let accept = Accept::new(listener, poll.registry(), LISTENER)?;
        let now = Alarm::at(Instant::now());
        Ok(Self {
            service: Rc::new(service),
            settings: share.config.settings.clone(),
            entries: Entries::new(share.room.clone()),
            wheel: Wheel::new(now),
            registration: Registration::new()?,
            home,
            drain: Drain::new(),
            shutdown_response: share.config.shutdown_response.clone(),
            vacant: None,
            now,
            share,
            poll: reactor::watch(poll, tokio::io::Interest::READABLE)?,
            events: mio::Events::with_capacity(SLICE),
            accept: Some(accept),
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            woken: Taken::default(),
            due: Vec::new(),
            returned: Vec::new(),
            draining: None,
            slab_bytes: 0,
        })
    }

    /// One round. Ready when it drains and the last connection has ended.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.now = Alarm::at(Instant::now());
        let mut more = self.event_slice(cx)?;
        more |= self.wake_slice(cx.waker());
        more |= self.return_slice(cx.waker());
        more |= self.deadline_slice();
        more |= self.drain_slice();
        // Last, so that a place which has become free in this turn is taken in it.
        more |= self.accept_slice();
        self.count_bytes();
        if self.draining.is_some() && self.entries.len() == 0 {
            return Poll::Ready(Ok(()));
        }
        if more || self.poll_sleep(cx).is_ready() {
            come_again(cx);
        }
        Poll::Pending
    }

    fn accept_slice(&mut self) -> bool {
        let now = Instant::now();
        for _ in 0..SLICE {
            let Some(accept) = self.accept.as_mut().filter(|accept| accept.is_ready(now)) else { return false };
            // Whoever leaves does so in a turn of its worker, and this is the last part of that: it finds the listener
            // ready if there is somebody whom the others had to leave in the queue.
            let Ok(place) = self.share.room.try_acquire() else { return false };
            let Some((socket, peer)) = accept.accept(now) else { return false };
            let key = self.entries.reserve();
            // Given back by the entry.
            place.forget();
            let watched = self.poll.get_ref().registry().register(
                &mut SourceFd(&socket.as_raw_fd()),
                Token(key as usize),
                Interest::READABLE,
            );
            match watched {
                Ok(()) => {
                    self.counters().accepted.increment();
                    self.welcome(key, socket, peer);
                }
                Err(error) => {
                    tracing::error!(%error, "cannot watch a connection that was accepted, it is closed");
                    self.entries.remove(key);
                }
            }
        }
        true
    }

    fn event_slice(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let Poll::Ready(ready) = self.poll.poll_read_ready_mut(cx) else { return Ok(false) };
        let mut ready = ready?;
        let polled = ready.get_inner_mut().poll(&mut self.events, Some(Duration::ZERO));
        match polled {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            polled => polled?,
        }
        let events = std::mem::replace(&mut self.events, mio::Events::with_capacity(0));
        let full = events.iter().count() == SLICE;
        if !full {
            ready.clear_ready();
        }
        for event in &events {
            if event.token() == LISTENER {
                if let Some(accept) = &mut self.accept {
                    accept.set_ready();
                }
                continue;
            }
            // Tokens are keys.
            let key = event.token().0 as u32;
            let hung_up = event.is_read_closed() || event.is_error();
            self.visit(key, |held, worker| held.readable(worker, hung_up));
        }
        self.events = events;
        // What was not full is polled once more, to register for the next.
        Ok(true)
    }

    fn wake_slice(&mut self, waker: &Waker) -> bool {
        self.woken.begin_round(self.registration.ready(), waker);
        for _ in 0..SLICE {
            let Some(key) = self.woken.next() else { break };
            if self.is_parked(key) {
                self.visit(key, Held::look);
            } else if let Some(entry) = self.entries.dormant(key) {
                if let Some(waker) = &entry.waker {
                    waker.clear();
                }
            }
        }
        self.woken.end_round()
    }

    fn return_slice(&mut self, waker: &Waker) -> bool {
        let taken = self.returned.is_empty();
        if taken {
            self.returned = self.home.take(waker);
        }
        for _ in 0..SLICE {
            let Some(Returned { key, connection }) = self.returned.pop() else { break };
            match connection {
                None => self.entries.remove(key),
                Some(Back { waiting, end }) => {
                    // Its events went by while it was away: those that still hold are told again.
                    if let Err(error) = self.home.watch_anew(waiting.io.descriptor(), key) {
                        tracing::error!(%error, "cannot watch a connection that came back, it is closed");
                        self.entries.remove(key);
                        continue;
                    }
                    let held = Held::new(self, key, waiting);
                    self.guard(key, |worker| held.come_back(worker, end));
                }
            }
        }
        // As with wakes.
        !taken || !self.returned.is_empty()
    }

    fn deadline_slice(&mut self) -> bool {
        if self.due.is_empty() {
            let mut due = std::mem::take(&mut self.due);
            self.wheel.advance(self.now, SLICE, &mut due);
            self.due = due;
        }
        for _ in 0..SLICE {
            let Some(key) = self.due.pop() else { break };
            let Some(entry) = self.entries.dormant(key) else { continue };
            if self.wheel.ring(entry.due, &mut entry.queued, key, self.now) {
                self.visit(key, Held::overdue);
            }
        }
        if self.due.is_empty() && self.due.capacity() > SLICE {
            self.due = Vec::new();
        }
        !self.due.is_empty()
    }

    fn drain_slice(&mut self) -> bool {
        let Some(next) = self.draining else { return false };
        let end = self.entries.end().min(next.saturating_add(SLICE as u32));
        for key in next..end {
            self.visit(key, Held::drain);
        }
        self.draining = Some(end);
        end < self.entries.end()
    }

    /// Stops accepting, and begins to end what is there.
    fn begin_drain(&mut self) {
        // Closed before anything else, so that new clients are refused and go elsewhere.
        if let Some(accept) = self.accept.take() {
            accept.close(self.poll.get_ref().registry());
        }
        self.draining = Some(0);
        self.drain.begin();
    }

    /// Ends what the shutdown's deadline has left.
    fn close(&mut self) {
        tracing::debug!(connections = self.entries.len(), "closing what the shutdown's deadline left");
        self.drain.close();
        for key in 0..self.entries.end() {
            self.visit(key, |held, worker| held.close(worker));
        }
    }

    /// Waits for the next deadline, or the end of a pause in accepting.
    fn poll_sleep(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let pause = self.accept.as_ref().and_then(Accept::resumes_at);
        let Some(at) = self.wheel.next().into_iter().chain(pause).min() else { return Poll::Pending };
        if self.sleep.deadline() != at {
            self.sleep.as_mut().reset(at);
        }
        self.sleep.as_mut().poll(cx)
    }

    /// Does something with a dormant connection.
    fn visit(&mut self, key: u32, act: impl FnOnce(Held<S>, &mut Self)) {
        if let Some(held) = Held::take(self, key) {
            self.guard(key, |worker| act(held, worker));
        }
    }

    /// A service's panics are caught where they happen. This is for the rest, the drop of a future for one: it ends a
    /// connection and never the loop.
    fn guard(&mut self, key: u32, act: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| act(self))).is_err() {
            tracing::error!("a connection was closed because something in it panicked");
            self.entries.remove(key);
        }
    }

    fn is_parked(&mut self, key: u32) -> bool {
        self.entries.dormant(key).is_some_and(|entry| entry.future.is_some())
    }

    // ===== what serving needs =====

    pub(super) fn counters(&self) -> &Counters {
        &self.share.counters
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// Why one more request may not be parked, if it may not.
    pub(super) fn refuses(&self) -> Option<Outcome> {
        if self.is_draining() { Some(Outcome::ShutDown) } else { self.share.is_full().then_some(Outcome::Refused) }
    }

    /// A connection goes dormant.
    pub(super) fn enter(&self, parked: bool) {
        let counters = self.counters();
        if parked { counters.parked.increment() } else { counters.idle.increment() }
    }

    /// A connection is dormant no more.
    pub(super) fn leave(&self, parked: bool) {
        let counters = self.counters();
        if parked { counters.parked.decrement() } else { counters.idle.decrement() }
    }

    /// The moment for an alarm.
    pub(super) fn due(&self, alarm: Alarm) -> Tick {
        self.wheel.due(alarm, self.now)
    }

    /// The moment at which a wait that begins now has lasted too long.
    pub(super) fn timeout(&self, wait: Wait) -> Tick {
        match self.settings.timeout(wait) {
            Some(timeout) => self.due(self.now.plus(timeout)),
            None => Tick::NEVER,
        }
    }

    fn count_bytes(&mut self) {
        let bytes = self.entries.bytes() as u64;
        self.counters().slab_bytes.replace(self.slab_bytes, bytes);
        self.slab_bytes = bytes;
    }
}

/// Has the task polled again when whoever else lives on this thread has had its turn, and when tokio has looked at its
/// sockets and timers: a task that simply wakes itself is polled 61 times before that.
fn come_again(cx: &mut Context<'_>) {
    let _pending = pin!(tokio::task::yield_now()).poll(cx);
}

impl<S: App> Drop for Worker<S> {
    fn drop(&mut self) {
        // The loop was dropped before its end: those who wait are answered all the same, as far as that needs no wait.
        if self.draining.is_none() {
            self.begin_drain();
        }
        self.home.close();
        for key in 0..self.entries.end() {
            self.visit(key, Held::drain);
            self.visit(key, |held, worker| held.close(worker));
        }
        self.counters().slab_bytes.replace(self.slab_bytes, 0);
    }
}

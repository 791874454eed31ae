//! The loop: accepts, events, wakes and deadlines, in slices and in turn.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Token};
use tokio::time::{Instant, Sleep};

use super::super::share::Share;
use super::super::shutdown::Phase;
use super::App;
use super::accept::Accept;
use super::common::Common;
use super::events::{Events, Happened, LISTENER};
use super::graduate::{Back, Returned};
use super::held::Held;
use super::ready::Taken;
use super::traffic::{News, Traffic, Unsent};
use crate::timer::Alarm;

/// How many of one kind are served before it is the others' turn: some 32 times 10 µs. Who has just been accepted waits
/// for two rounds, which `cargo bench --bench fair` shows.
const SLICE: usize = 32;

/// How many rounds a turn has at the most, before tokio looks at its sockets and timers and all others on this thread have
/// theirs: to come back from there costs system calls, and two slices are some 0.6 ms.
const ROUNDS_MAX: usize = 2;

/// All connections of one thread.
pub(super) struct Worker<S: App> {
    common: Common<S>,
    events: Events,
    accept: Option<Accept>,
    sleep: Pin<Box<Sleep>>,
    // The last round has left something else than events to do.
    busy: bool,
    // The slice of events that is served, with what was read.
    read: Vec<(Happened, News)>,
    // Taken from where they come in, and not looked at yet.
    woken: Taken,
    due: Vec<u32>,
    returned: Vec<Returned<S>>,
    // While it drains: the keys below have been looked at.
    drained: u32,
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
        if !worker.common.is_draining() && stop.as_mut().poll(cx).is_ready() {
            worker.begin_drain();
            deadline.set(Some(tokio::time::sleep(worker.common.share.config.shutdown_timeout)));
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
        let events = Events::new()?;
        let accept = Accept::new(listener, events.registry(), LISTENER)?;
        Ok(Self {
            common: Common::new(service, share, events.registry(), SLICE)?,
            events,
            accept: Some(accept),
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            busy: false,
            read: Vec::with_capacity(SLICE),
            woken: Taken::default(),
            due: Vec::new(),
            returned: Vec::new(),
            drained: 0,
        })
    }

    /// One turn. Ready when it drains and the last connection has ended.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut more = true;
        for _ in 0..ROUNDS_MAX {
            if more {
                more = self.round(cx)?;
            }
        }
        self.common.count_bytes();
        if self.common.is_draining() && self.common.entries.len() == 0 {
            return Poll::Ready(Ok(()));
        }
        if more || self.poll_sleep(cx).is_ready() {
            come_again(cx);
        }
        Poll::Pending
    }

    /// A slice of each kind. Says whether there is more to do at once.
    fn round(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let now = Instant::now();
        self.common.now = Alarm::at(now);
        let more_events = self.event_slice(cx)?;
        self.send();
        let mut more = self.wake_slice(cx.waker());
        more |= self.return_slice(cx.waker());
        more |= self.deadline_slice();
        more |= self.drain_slice();
        self.send();
        // Last, so that a place which has become free in this round is taken in it.
        more |= self.accept_slice(now);
        self.busy = more;
        Ok(more || more_events)
    }

    fn accept_slice(&mut self, now: Instant) -> bool {
        for _ in 0..SLICE {
            let Some(accept) = &mut self.accept else { return false };
            if !accept.is_ready(now) {
                return false;
            }
            // Whoever leaves does so in a round of its worker, and this is the last part of that: it finds the listener
            // ready if there is somebody whom the others had to leave in the queue.
            let Ok(place) = self.common.share.room.try_acquire() else { return false };
            let Some((socket, peer)) = accept.accept(now) else { return false };
            let key = self.common.entries.reserve();
            debug_assert!(!self.common.traffic.outgoing.holds(key), "all has been sent by the end of a slice");
            self.events.forget(key);
            // Given back by the entry.
            place.forget();
            let watched = self.events.registry().register(
                &mut SourceFd(&socket.as_raw_fd()),
                Token(key as usize),
                Interest::READABLE,
            );
            match watched {
                Ok(()) => {
                    self.common.counters().accepted.increment();
                    Held::welcome(&mut self.common, key, socket, peer);
                }
                Err(error) => {
                    tracing::error!(%error, "cannot watch a connection that was accepted, it is closed");
                    self.common.entries.remove(key);
                }
            }
        }
        true
    }

    fn event_slice(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.events.look(cx, self.busy)? {
            if let Some(accept) = &mut self.accept {
                accept.set_ready();
            }
        }
        self.read_slice();
        let mut read = std::mem::take(&mut self.read);
        for (Happened { key, hung_up }, news) in read.drain(..) {
            match news {
                News::Arrived(arrived) => self.visit(key, |held, common| held.arrived(common, arrived)),
                News::End(end) => self.visit(key, |held, common| held.end(common, end)),
                News::Nothing => {}
                News::Unknown => self.visit(key, |held, common| held.readable(common, hung_up)),
            }
        }
        self.read = read;
        Ok(self.events.has_more(cx))
    }

    /// Reads what those have sent whose turn it is.
    fn read_slice(&mut self) {
        self.common.entries.look_ahead(self.events.next_keys(SLICE));
        for _ in 0..SLICE {
            let Some(happened) = self.events.next() else { break };
            let news = match self.common.entries.dormant(happened.key) {
                Some(entry) if !happened.hung_up => self.common.traffic.incoming.read(entry),
                Some(_) => News::Unknown,
                None => News::Nothing,
            };
            self.read.push((happened, news));
        }
    }

    /// Sends what those are to be sent whose turn it was.
    fn send(&mut self) {
        let Common { traffic: Traffic { outgoing, .. }, entries, .. } = &mut self.common;
        for Unsent { key, rest } in outgoing.send(entries) {
            self.visit(key, |held, common| held.unsent(common, rest));
        }
    }

    fn wake_slice(&mut self, waker: &Waker) -> bool {
        self.woken.begin_round(self.common.registration.ready(), waker);
        self.common.entries.look_ahead(self.woken.next_ones(SLICE));
        for _ in 0..SLICE {
            let Some(key) = self.woken.next() else { break };
            if self.is_parked(key) {
                self.visit(key, Held::look);
            } else if let Some(entry) = self.common.entries.dormant(key) {
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
            self.returned = self.common.home.take(waker);
        }
        for _ in 0..SLICE {
            let Some(Returned { key, connection }) = self.returned.pop() else { break };
            match connection {
                None => self.common.entries.remove(key),
                Some(Back { waiting, end }) => {
                    // Its events went by while it was away: those that still hold are told again.
                    if let Err(error) = self.common.home.watch_anew(waiting.io.descriptor(), key) {
                        tracing::error!(%error, "cannot watch a connection that came back, it is closed");
                        self.common.entries.remove(key);
                        continue;
                    }
                    let held = Held::new(&self.common, key, waiting);
                    self.guard(key, |common| held.come_back(common, end));
                }
            }
        }
        // As with wakes.
        !taken || !self.returned.is_empty()
    }

    fn deadline_slice(&mut self) -> bool {
        if self.due.is_empty() {
            let mut due = std::mem::take(&mut self.due);
            self.common.wheel.advance(self.common.now, SLICE, &mut due);
            self.due = due;
        }
        for _ in 0..SLICE {
            let Some(key) = self.due.pop() else { break };
            let Some(entry) = self.common.entries.dormant(key) else { continue };
            if self.common.wheel.ring(entry.due, &mut entry.queued, key, self.common.now) {
                self.visit(key, Held::overdue);
            }
        }
        if self.due.is_empty() && self.due.capacity() > SLICE {
            self.due = Vec::new();
        }
        !self.due.is_empty()
    }

    fn drain_slice(&mut self) -> bool {
        if !self.common.is_draining() {
            return false;
        }
        let end = self.common.entries.end().min(self.drained.saturating_add(SLICE as u32));
        for key in self.drained..end {
            self.visit(key, Held::drain);
        }
        self.drained = end;
        end < self.common.entries.end()
    }

    /// Stops accepting, and begins to end what is there.
    fn begin_drain(&mut self) {
        // Closed before anything else, so that new clients are refused and go elsewhere.
        if let Some(accept) = self.accept.take() {
            accept.close(self.events.registry());
        }
        self.common.begin_drain();
    }

    /// Ends what the shutdown's deadline has left.
    fn close(&mut self) {
        tracing::debug!(connections = self.common.entries.len(), "closing what the shutdown's deadline left");
        self.common.home.tell(Phase::Closing);
        self.close_all();
    }

    /// Ends all who are here. Those who wait are answered all the same, as far as that needs no wait.
    fn close_all(&mut self) {
        for key in 0..self.common.entries.end() {
            self.visit(key, Held::drain);
            self.visit(key, |held, common| held.close(common));
        }
        self.send();
    }

    /// Waits for the next deadline, or the end of a pause in accepting.
    fn poll_sleep(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let pause = self.accept.as_ref().and_then(Accept::resumes_at);
        let Some(at) = self.common.wheel.next().into_iter().chain(pause).min() else { return Poll::Pending };
        if self.sleep.deadline() != at {
            self.sleep.as_mut().reset(at);
        }
        self.sleep.as_mut().poll(cx)
    }

    /// Does something with a dormant connection.
    fn visit(&mut self, key: u32, act: impl FnOnce(Held<S>, &mut Common<S>)) {
        if self.common.traffic.outgoing.holds(key) {
            self.send();
        }
        if let Some(held) = Held::take(&mut self.common, key) {
            self.guard(key, |common| act(held, common));
        }
    }

    /// A service's panics are caught where they happen. This is for the rest, the drop of a future for one: it ends a
    /// connection and never the loop.
    fn guard(&mut self, key: u32, act: impl FnOnce(&mut Common<S>)) {
        if catch_unwind(AssertUnwindSafe(|| act(&mut self.common))).is_err() {
            tracing::error!("a connection was closed because something in it panicked");
            self.common.traffic.forget();
            self.common.entries.remove(key);
        }
    }

    fn is_parked(&mut self, key: u32) -> bool {
        self.common.entries.dormant(key).is_some_and(|entry| entry.future.is_some())
    }
}

/// Has the task polled again when whoever else lives on this thread has had its turn, and when tokio has looked at its
/// sockets and timers: a task that simply wakes itself is polled 61 times before that.
fn come_again(cx: &mut Context<'_>) {
    let _pending = pin!(tokio::task::yield_now()).poll(cx);
}

impl<S: App> Drop for Worker<S> {
    fn drop(&mut self) {
        // The loop was dropped before its end.
        if !self.common.is_draining() {
            self.begin_drain();
        }
        // Who is on the way back from a task is answered with the others.
        while self.return_slice(Waker::noop()) {}
        self.common.home.close();
        self.close_all();
        self.common.count_no_bytes();
    }
}

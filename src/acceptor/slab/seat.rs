//! The IO that hyper keeps while connections come and go.
//!
//! hyper wants IO that can be upgraded to be `Send`, and what it is given cannot be reached while it has it. So it is given
//! a [`Seat`], and the stream in it is with its [`Keeper`], who lends it to the seat for as long as hyper is polled: no lock
//! is needed to reach it then. A keeper that goes leaves the stream to the seat, behind a lock: if the connection was upgraded,
//! that is all that is left of it, and otherwise it goes as well.

use std::cell::Cell;
use std::io;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use hyper::rt::{Read, ReadBufCursor, Write};

use super::seated::Seated;
use super::stream::{Direction, Stream};
use super::traffic::Traffic;

/// A place for a stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Seat(Arc<Mutex<Place>>);

/// What a keeper leaves to its seat.
#[derive(Debug, Default)]
struct Place {
    seated: Option<Box<Seated>>,
    /// Who has asked for it before it was left, in each direction: an upgrade is announced in the middle of a poll.
    early: [Option<Waker>; 2],
}

/// Who has the stream while hyper is not polled.
#[derive(Debug)]
pub(super) struct Keeper {
    seat: Seat,
    // `None` while it is lent, and for good if something panics with it.
    seated: Option<Box<Seated>>,
}

thread_local! {
    /// What is lent to the seat whose hyper is polled on this thread. It is always taken back; without a drop of its own the
    /// variable is there until the thread's very end, where the last connections may be served.
    static LENT: Cell<Option<ManuallyDrop<Box<Seated>>>> = const { Cell::new(None) };
}

// ===== impl Seat =====

impl Seat {
    /// Tells it from all others that there are.
    fn number(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        // Reading and writing a socket does not panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is lent to this seat. It has to be put back.
    #[inline]
    fn take_lent(&self) -> Option<Box<Seated>> {
        let lent = LENT.take()?;
        if lent.is_at(self.number()) {
            return Some(ManuallyDrop::into_inner(lent));
        }
        LENT.set(Some(lent));
        None
    }

    /// Acts on what is seated, or waits until it is left here.
    #[inline]
    fn poll_seated<R>(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        act: impl FnOnce(&mut Seated, &mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        let mut lent = self.take_lent();
        let mut place;
        let seated = match &mut lent {
            Some(lent) => lent,
            None => {
                place = self.place();
                let Place { seated, early } = &mut *place;
                let Some(seated) = seated else {
                    early[direction as usize] = Some(cx.waker().clone());
                    return Poll::Pending;
                };
                seated
            }
        };
        let polled = act(seated, cx);
        if let Some(lent) = lent {
            LENT.set(Some(ManuallyDrop::new(lent)));
        }
        polled
    }
}

impl Read for Seat {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        self.poll_seated(cx, Direction::Read, |seated, cx| seated.poll_read(cx, buf))
    }
}

impl Write for Seat {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_seated(cx, Direction::Write, |seated, cx| seated.poll_write(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_seated(cx, Direction::Write, Seated::poll_flush)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_seated(cx, Direction::Write, Seated::poll_shutdown)
    }
}

// ===== impl Keeper =====

impl Keeper {
    pub(super) fn new() -> Self {
        let seat = Seat::default();
        let seated = Some(Box::new(Seated::new(seat.number())));
        Self { seat, seated }
    }

    /// What hyper is given for an IO.
    pub(super) fn seat(&self) -> Seat {
        self.seat.clone()
    }

    /// Lends what is seated to the seat while hyper is polled.
    #[inline]
    pub(super) fn lend<R>(&mut self, poll: impl FnOnce() -> R) -> R {
        struct Lending<'a> {
            seated: &'a mut Option<Box<Seated>>,
            before: Option<ManuallyDrop<Box<Seated>>>,
        }
        impl Drop for Lending<'_> {
            fn drop(&mut self) {
                *self.seated = LENT.replace(self.before.take()).map(ManuallyDrop::into_inner);
            }
        }
        let before = LENT.replace(self.seated.take().map(ManuallyDrop::new));
        let _lending = Lending { seated: &mut self.seated, before };
        poll()
    }

    /// Seats a stream that is in place, with what there is in `traffic` of its connection. hyper reads `ahead` before it.
    #[inline]
    pub(super) fn take_in(&mut self, stream: Stream, ahead: &'static [u8], traffic: &mut Traffic) {
        if let Some(seated) = &mut self.seated {
            seated.take_in(stream, ahead, traffic);
        }
    }

    /// hyper is given what was read of the stream before.
    pub(super) fn set_begun(&mut self) {
        if let Some(seated) = &mut self.seated {
            seated.set_begun();
        }
    }

    /// The stream is in place no more: sends what was written, as far as there is room.
    pub(super) fn settle(&mut self, traffic: &mut Traffic) {
        if let Some(seated) = &mut self.seated {
            seated.settle();
            seated.give_back_emptied(&mut traffic.incoming);
        }
    }

    /// Gives up the stream, which is in place again. What it is still to be sent goes into `traffic`.
    #[inline]
    pub(super) fn give_up(&mut self, traffic: &mut Traffic) -> Option<Stream> {
        self.seated.as_mut()?.give_up(traffic)
    }

    /// Whether what has been read is known to have no `content-length` in it.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.seated.as_ref().is_some_and(|seated| seated.is_plain())
    }

    /// How much was read first.
    pub(super) fn first_len(&self) -> Option<usize> {
        self.seated.as_ref()?.first_len()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let Some(mut seated) = self.seated.take() else { return };
        seated.settle();
        let early = {
            let mut place = self.seat.place();
            place.seated = Some(seated);
            std::mem::take(&mut place.early)
        };
        // Not under the lock: who knows what a wake does.
        early.into_iter().flatten().for_each(Waker::wake);
    }
}

//! hyper for one connection after another: when it may be had by the next, and how.

use http::Response;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::service::HttpService;

use super::Active;
use crate::BoxError;
use crate::server::conn::dormant::Parked;
use crate::server::conn::flags::Flag;
use crate::server::conn::head::Head;
use crate::server::conn::machine::Machine;
use crate::server::conn::notes::Notes;
use crate::server::conn::service::Reply;
use crate::server::conn::settings::Settings;

impl<I, S, M> Active<I, S, M>
where
    I: Read + Write + Unpin,
    S: HttpService<Incoming>,
    S::ResBody: 'static,
    <S::ResBody as http_body::Body>::Error: Into<BoxError>,
    M: Machine<I, S>,
{
    /// Whether hyper, at rest, may serve another connection once this one has left: it holds nothing of it.
    pub(crate) fn is_reusable(&self) -> bool {
        self.standard
            && !self.notes.last
            && !self.upgrade_asked()
            && self.flags.has(Flag::Drained)
            && (!self.is_released() || self.is_at_rest())
    }

    /// Whether hyper, polled since it was released, has written all of the answer that goes nowhere, and goes on.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.is_flushed() && !self.flags.has(Flag::Closing)
    }

    /// From here on hyper is released from a request that has to wait, if it can be.
    pub(crate) fn set_releases(&self, releases: bool) {
        self.flags.put(Flag::Releases, releases);
    }

    /// Whether hyper was released from the request that it had in hand. It must not be polled before it is renewed.
    pub(crate) fn is_released(&self) -> bool {
        self.flags.has(Flag::Released)
    }

    /// What hyper does goes nowhere until it is renewed.
    pub(crate) fn release(&self) {
        self.flags.set(Flag::Released);
    }

    /// The next connection's turn, after this one has left a hyper that is [reusable](Self::is_reusable) and idle.
    pub(crate) fn renew(&mut self, notes: Notes, settings: &Settings) {
        self.renew_with(notes, Reply::None, Head::default(), settings);
    }

    /// The same for a request that was parked and has its answer. Returns the head that hyper has to read first.
    pub(crate) fn renew_answered(
        &mut self,
        notes: Notes,
        parked: Parked<S::Future>,
        output: Result<Response<S::ResBody>, BoxError>,
        settings: &Settings,
    ) -> &'static [u8] {
        self.renew_with(notes, Reply::Ready(output), parked.head, settings);
        parked.head.bytes()
    }

    /// The same for hyper that waits for an answer to a request with an equal head: it has to read nothing before.
    pub(crate) fn renew_asked(
        &mut self,
        notes: Notes,
        output: Result<Response<S::ResBody>, BoxError>,
        settings: &Settings,
    ) {
        let head = self.slot.head();
        self.renew_with(notes, Reply::None, head, settings);
        self.flags.call(false, false, false);
        self.slot.answer_with(output);
        self.called = true;
        self.fresh = false;
    }

    fn renew_with(&mut self, notes: Notes, reply: Reply<S::Future, S::ResBody>, head: Head, settings: &Settings) {
        self.flags.reset();
        self.flags.expect(settings.expects_wait(notes), settings.expects_kept());
        self.slot.renew(reply, head);
        self.notes = notes;
        self.called = false;
        self.first = false;
        self.fresh = true;
        self.large_head = false;
    }
}

//! The connection of either version.

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::service::HttpService;

use super::super::deadline::Deadline;
#[cfg(feature = "http2")]
use super::super::flags::Flags;
use super::super::http1;
#[cfg(feature = "http2")]
use super::super::io::{Io, Replay};
use super::super::settings::Wait;
use super::version::{Preface, Version};
use super::{Builder, HttpServerConnExec};
use crate::BoxError;

#[cfg(feature = "http2")]
type Http2<I, S, E> = Pin<Box<hyper::server::conn::http2::Connection<Io<I>, S, E>>>;

/// A future that serves one connection, returned from [`Builder::serve_connection`].
///
/// # What happens on drop
///
/// The connection is closed; futures of parked requests are dropped.
#[must_use = "futures do nothing unless polled"]
pub struct Connection<'a, I, S, E>
where
    S: HttpService<Incoming>,
{
    state: State<'a, I, S, E, http1::Connection<I, S>>,
}

/// A [`Connection`] that may be upgraded, returned from [`Builder::serve_connection_with_upgrades`].
///
/// # What happens on drop
///
/// As for [`Connection`]. Once upgraded there is nothing to drop.
#[must_use = "futures do nothing unless polled"]
pub struct UpgradeableConnection<'a, I, S, E>
where
    S: HttpService<Incoming>,
{
    state: State<'a, I, S, E, http1::UpgradeableConnection<I, S>>,
}

enum State<'a, I, S, E, H>
where
    S: HttpService<Incoming>,
{
    /// What the client speaks is not known yet.
    Reading(Reading<'a, I, S, E>),
    Http1(H),
    #[cfg(feature = "http2")]
    Http2(Http2<I, S, E>),
    Done,
}

struct Reading<'a, I, S, E> {
    io: I,
    service: S,
    builder: Cow<'a, Builder<E>>,
    only: Option<Version>,
    preface: Preface,
    deadline: Deadline,
    cancelled: bool,
}

/// The standard library's needs a `Clone` that only [`Connection::into_owned`] does.
enum Cow<'a, T> {
    Borrowed(&'a T),
    Owned(Box<T>),
}

/// The two kinds of an HTTP/1 connection.
trait Http1<I, S: HttpService<Incoming>>: Future<Output = hyper::Result<()>> + Unpin {
    fn new(connection: http1::Connection<I, S>) -> Self;
    fn graceful_shutdown(&mut self);
    fn is_dormant(&self) -> bool;
}

// ===== impl State =====

impl<'a, I, S, E, B, H> State<'a, I, S, E, H>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    I: Read + Write + Unpin,
    B: Body + 'static,
    B::Error: Into<BoxError>,
    E: HttpServerConnExec<S::Future, B>,
    H: Http1<I, S>,
{
    fn new(builder: &'a Builder<E>, io: I, service: S, only: Option<Version>) -> Self {
        if only == Some(Version::H1) {
            return Self::Http1(H::new(builder.http1.serve_connection(io, service)));
        }
        let mut deadline = Deadline::default();
        let settings = builder.http1.shared();
        deadline.set(&settings.clock, settings.timeout(Wait::FirstByte));
        let builder = Cow::Borrowed(builder);
        Self::Reading(Reading { io, service, builder, only, preface: Preface::default(), deadline, cancelled: false })
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        loop {
            match self {
                Self::Reading(reading) => {
                    let next = ready!(reading.poll(cx))?;
                    let Self::Reading(reading) = std::mem::replace(self, Self::Done) else { continue };
                    *self = reading.finish(next)?;
                }
                Self::Http1(connection) => return Pin::new(connection).poll(cx).map_err(Into::into),
                #[cfg(feature = "http2")]
                Self::Http2(connection) => return connection.as_mut().poll(cx).map_err(Into::into),
                Self::Done => return Poll::Ready(Ok(())),
            }
        }
    }

    fn graceful_shutdown(&mut self) {
        match self {
            // hyper 1.12 awaits the rest of the preface, for ever if need be: a silent client would hold up a shutdown.
            Self::Reading(reading) if reading.only.is_some() => *self = Self::Done,
            Self::Reading(reading) => reading.cancelled = true,
            Self::Http1(connection) => connection.graceful_shutdown(),
            #[cfg(feature = "http2")]
            Self::Http2(connection) => connection.as_mut().graceful_shutdown(),
            Self::Done => {}
        }
    }

    fn is_dormant(&self) -> bool {
        match self {
            Self::Reading(_) => true,
            Self::Http1(connection) => connection.is_dormant(),
            #[cfg(feature = "http2")]
            Self::Http2(_) => false,
            Self::Done => false,
        }
    }

    fn into_owned(self) -> State<'static, I, S, E, H>
    where
        Builder<E>: Clone,
    {
        match self {
            Self::Reading(reading) => {
                let Reading { io, service, builder, only, preface, deadline, cancelled } = reading;
                let builder = Cow::Owned(Box::new(builder.clone()));
                State::Reading(Reading { io, service, builder, only, preface, deadline, cancelled })
            }
            Self::Http1(connection) => State::Http1(connection),
            #[cfg(feature = "http2")]
            Self::Http2(connection) => State::Http2(connection),
            Self::Done => State::Done,
        }
    }
}

// ===== impl Reading =====

/// What becomes of a connection, and the bytes that it has sent.
enum Next {
    Serve(Version, Vec<u8>),
    TimedOut,
}

impl<I, S, E, B> Reading<'_, I, S, E>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    I: Read + Write + Unpin,
    B: Body + 'static,
    B::Error: Into<BoxError>,
    E: HttpServerConnExec<S::Future, B>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Next>> {
        if self.cancelled {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::Interrupted, "Cancelled")));
        }
        if let Poll::Ready(read) = self.preface.poll(&mut self.io, cx) {
            let (version, bytes) = read?;
            // Where only one is served, that one's own error is the answer to the other.
            return Poll::Ready(Ok(Next::Serve(self.only.unwrap_or(version), bytes)));
        }
        self.deadline.poll(&self.builder.http1.shared().clock, cx).map(|()| Ok(Next::TimedOut))
    }

    fn finish<'a, H: Http1<I, S>>(self, next: Next) -> Result<State<'a, I, S, E, H>, BoxError> {
        let Self { io, service, builder, .. } = self;
        match next {
            Next::Serve(Version::H1, read) => {
                Ok(State::Http1(H::new(builder.http1.serve_connection_with_leftover(io, service, &read))))
            }
            // hyper's HTTP/1 meets the deadline: there is no other way to its error. What has come of a preface it would
            // refuse before it looks at the time.
            Next::TimedOut => Ok(State::Http1(H::new(builder.http1.time_out(io, service)))),
            #[cfg(feature = "http2")]
            Next::Serve(Version::H2, leftover) => {
                let replay = Replay { leftover, ..Replay::default() };
                let io = Io::new(io, replay, std::sync::Arc::new(Flags::default()), false);
                Ok(State::Http2(Box::pin(builder.http2.serve_connection(io, service))))
            }
            #[cfg(not(feature = "http2"))]
            Next::Serve(Version::H2, _) => Err("HTTP/2 is not supported".into()),
        }
    }
}

impl<T> Deref for Cow<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Borrowed(value) => value,
            Self::Owned(value) => value,
        }
    }
}

// ===== impl Http1 =====

impl<I, B, S> Http1<I, S> for http1::Connection<I, S>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    I: Read + Write + Unpin,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    fn new(connection: http1::Connection<I, S>) -> Self {
        connection
    }

    fn graceful_shutdown(&mut self) {
        Pin::new(self).graceful_shutdown();
    }

    fn is_dormant(&self) -> bool {
        Self::is_dormant(self)
    }
}

impl<I, B, S> Http1<I, S> for http1::UpgradeableConnection<I, S>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    I: Read + Write + Unpin + Send + 'static,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    fn new(connection: http1::Connection<I, S>) -> Self {
        connection.with_upgrades()
    }

    fn graceful_shutdown(&mut self) {
        Pin::new(self).graceful_shutdown();
    }

    fn is_dormant(&self) -> bool {
        Self::is_dormant(self)
    }
}

// ===== impl Connection =====

macro_rules! connection {
    ($name:ident: $($bound:tt)*) => {
        impl<'a, I, S, E, B> $name<'a, I, S, E>
        where
            S: HttpService<Incoming, ResBody = B>,
            S::Error: Into<BoxError>,
            I: $($bound)*,
            B: Body + 'static,
            B::Error: Into<BoxError>,
            E: HttpServerConnExec<S::Future, B>,
        {
            pub(super) fn new(builder: &'a Builder<E>, io: I, service: S, only: Option<Version>) -> Self {
                Self { state: State::new(builder, io, service, only) }
            }

            /// Whether the connection holds no hyper now. For tests.
            #[doc(hidden)]
            pub fn is_dormant(&self) -> bool {
                self.state.is_dormant()
            }

            /// Starts a graceful shutdown: what is in hand is finished, and an idle connection closed.
            ///
            /// The connection must be polled on until it is done. One that has sent nothing yet ends with an
            /// [interrupted](io::ErrorKind::Interrupted) [`io::Error`], as in hyper-util. Does nothing once it is done.
            pub fn graceful_shutdown(mut self: Pin<&mut Self>) {
                self.state.graceful_shutdown();
            }

            /// Makes it independent of the builder.
            pub fn into_owned(self) -> $name<'static, I, S, E>
            where
                Builder<E>: Clone,
            {
                $name { state: self.state.into_owned() }
            }
        }

        impl<I, S, E, B> Future for $name<'_, I, S, E>
        where
            S: HttpService<Incoming, ResBody = B>,
            S::Future: 'static,
            S::Error: Into<BoxError>,
            I: $($bound)* + 'static,
            B: Body + 'static,
            B::Error: Into<BoxError>,
            E: HttpServerConnExec<S::Future, B>,
        {
            type Output = Result<(), BoxError>;

            fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                self.state.poll(cx)
            }
        }

        // The service is moved and called, never pinned; futures and HTTP/2 are boxed.
        impl<I: Unpin, S: HttpService<Incoming>, E> Unpin for $name<'_, I, S, E> {}

        impl<I, S: HttpService<Incoming>, E> fmt::Debug for $name<'_, I, S, E> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}

connection!(Connection: Read + Write + Unpin);
connection!(UpgradeableConnection: Read + Write + Unpin + Send + 'static);

#[cfg(test)]
mod tests {
    use hyper_util::rt::TokioExecutor;

    use super::super::super::sample::{Shared, Socket, Stateless, assert_send};
    use super::*;

    // What a waiting connection costs: growth is seen in review.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn its_size_is_known() {
        assert_eq!(size_of::<Connection<'static, Socket, Stateless, TokioExecutor>>(), 152);
        assert_eq!(size_of::<Connection<'static, Socket, Shared, TokioExecutor>>(), 160);
        assert_eq!(size_of::<UpgradeableConnection<'static, Socket, Shared, TokioExecutor>>(), 160);
    }

    #[test]
    fn it_is_send_when_its_parts_are() {
        assert_send::<Connection<'static, Socket, Stateless, TokioExecutor>>();
        assert_send::<Connection<'static, Socket, Shared, TokioExecutor>>();
        assert_send::<UpgradeableConnection<'static, Socket, Shared, TokioExecutor>>();
    }
}

//! The builder.

use std::sync::Arc;
use std::time::Duration;

use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::{Read, Timer, Write};
use hyper::service::HttpService;

use super::super::connection::Core;
use super::super::settings::{Settings, Wait};
use super::Connection;
use crate::BoxError;

/// Builds [`Connection`]s. hyper's [`Builder`](hyper::server::conn::http1::Builder) with another `use` line.
///
/// # Where it differs from hyper 1.12
///
/// - A [timer](Self::timer) is installed: tokio's. hyper has none until it is given one, and its deadlines are off.
/// - There are three deadlines: for the [first byte](Self::first_byte_timeout), for
///   [a head](Self::header_read_timeout), and [between two requests](Self::idle_timeout). The first and the last are
///   the head's unless set, which is hyper's behaviour. None of them runs while a request is parked.
/// - A client that leaves is noticed, and its service's future dropped, also while bytes of it are buffered: a
///   pipelined request, or a body that the service has not read. hyper looks for the end of file only when its buffer
///   is empty. The connection then ends with hyper's error for an incomplete message.
/// - What a service keeps of a request's headers and URI keeps no read buffer if the request is likely to wait and to
///   be kept, as others before it; see [`rehome`](crate::server::conn::rehome), which a service may call itself.
///
/// ```
/// use std::convert::Infallible;
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use hyper::{body::Incoming, service::service_fn};
/// use hyper_deferred::server::conn::http1::Builder;
/// use hyper_util::rt::TokioIo;
///
/// # async fn serve(stream: tokio::net::TcpStream) -> hyper::Result<()> {
/// let service = service_fn(|_: Request<Incoming>| async {
///     Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello")))
/// });
/// Builder::new().serve_connection(TokioIo::new(stream), service).await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    settings: Arc<Settings>,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// A builder with hyper's defaults, and tokio's timer.
    pub fn new() -> Self {
        Self { settings: Arc::new(Settings::new()) }
    }

    // Connections share the settings that they were built with; a change makes new ones.
    fn settings(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }

    /// Whether a client may close its sending half while it waits for the response. Otherwise the end of file ends
    /// the request, parked or not.
    ///
    /// With it, a client that has gone is not noticed while its request is parked, and a request with a body stays
    /// active while it waits.
    ///
    /// Default is `false`.
    pub fn half_close(&mut self, val: bool) -> &mut Self {
        let settings = self.settings();
        settings.half_close = val;
        settings.hyper.half_close(val);
        self
    }

    /// Whether a connection serves more than one request.
    ///
    /// Default is `true`.
    pub fn keep_alive(&mut self, val: bool) -> &mut Self {
        self.settings().hyper.keep_alive(val);
        self
    }

    /// Whether header names are written in title case.
    ///
    /// Default is `false`.
    pub fn title_case_headers(&mut self, enabled: bool) -> &mut Self {
        self.settings().hyper.title_case_headers(enabled);
        self
    }

    /// Whether several spaces may stand between the parts of a request line.
    ///
    /// Default is `false`.
    pub fn allow_multiple_spaces_in_request_line_delimiters(&mut self, enabled: bool) -> &mut Self {
        self.settings().hyper.allow_multiple_spaces_in_request_line_delimiters(enabled);
        self
    }

    /// Whether malformed header lines are ignored instead of refused.
    ///
    /// Default is `false`.
    pub fn ignore_invalid_headers(&mut self, enabled: bool) -> &mut Self {
        self.settings().hyper.ignore_invalid_headers(enabled);
        self
    }

    /// Whether the original case of header names is kept in a private extension of the request, and used from one of
    /// the response. That extension keeps hyper's read buffer for as long as a service keeps it.
    ///
    /// Default is `false`.
    pub fn preserve_header_case(&mut self, enabled: bool) -> &mut Self {
        self.settings().hyper.preserve_header_case(enabled);
        self
    }

    /// The most headers that a request may have; with more it is answered `431`.
    ///
    /// Default is 100.
    pub fn max_headers(&mut self, val: usize) -> &mut Self {
        self.settings().hyper.max_headers(val);
        self
    }

    /// The most bytes that a request's head may have, and a chunked body's trailers; with more it is answered `431`.
    ///
    /// Default is [`max_buf_size`](Self::max_buf_size).
    pub fn max_header_size(&mut self, val: usize) -> &mut Self {
        self.settings().set_max_header_size(val);
        self
    }

    /// The longest time for a request's head, from its first byte to its last. A client that takes longer is
    /// disconnected with hyper's error. `None` is for ever.
    ///
    /// Default is 30 seconds.
    pub fn header_read_timeout(&mut self, read_timeout: impl Into<Option<Duration>>) -> &mut Self {
        self.settings().set_timeout(Wait::Head, read_timeout.into());
        self
    }

    /// The longest time from accepting a connection to its first byte. `None` is for ever.
    ///
    /// Default is that of [`header_read_timeout`](Self::header_read_timeout). hyper has no setting of its own for it.
    pub fn first_byte_timeout(&mut self, timeout: impl Into<Option<Duration>>) -> &mut Self {
        self.settings().set_timeout(Wait::FirstByte, timeout.into());
        self
    }

    /// The longest time from the end of a response to the first byte of the next request. `None` is for ever.
    ///
    /// Default is that of [`header_read_timeout`](Self::header_read_timeout). hyper has no setting of its own for it.
    pub fn idle_timeout(&mut self, timeout: impl Into<Option<Duration>>) -> &mut Self {
        self.settings().set_timeout(Wait::Idle, timeout.into());
        self
    }

    /// Whether responses are written with vectored writes, or copied into one buffer.
    ///
    /// Default is to ask the IO.
    pub fn writev(&mut self, val: bool) -> &mut Self {
        self.settings().hyper.writev(val);
        self
    }

    /// The most bytes that hyper buffers for a connection, in each direction.
    ///
    /// Default is about 400 KiB.
    ///
    /// # Panics
    ///
    /// When `max` is less than 8192, as in hyper.
    pub fn max_buf_size(&mut self, max: usize) -> &mut Self {
        self.settings().hyper.max_buf_size(max);
        self
    }

    /// Whether responses have a `date` header.
    ///
    /// Default is `true`.
    pub fn auto_date_header(&mut self, enabled: bool) -> &mut Self {
        self.settings().hyper.auto_date_header(enabled);
        self
    }

    /// Whether responses to pipelined requests are flushed together. Experimental in hyper.
    ///
    /// While more requests are buffered hyper then does not flush, so that a request which waits is not dormant and
    /// a client that leaves is noticed as late as by hyper.
    ///
    /// Default is `false`.
    pub fn pipeline_flush(&mut self, enabled: bool) -> &mut Self {
        self.settings().hyper.pipeline_flush(enabled);
        self
    }

    /// The timer for the deadlines.
    ///
    /// Default is tokio's, on whichever runtime polls the connection. A deadline of less than two seconds it meets as
    /// exactly as tokio does; a longer one never early and up to a tenth of a second late, so that those of one runtime
    /// can share a timer: one for each idle connection would cost more memory than all else that it keeps for itself.
    /// Give it hyper-util's `TokioTimer` where that is too late. Without a tokio runtime it never fires, and says so in the
    /// log.
    pub fn timer<M>(&mut self, timer: M) -> &mut Self
    where
        M: Timer + Send + Sync + 'static,
    {
        self.settings().set_timer(Arc::new(timer));
        self
    }

    /// Serves one connection with a [`Service`](hyper::service::Service).
    ///
    /// The time for the first byte runs from here.
    pub fn serve_connection<I, S>(&self, io: I, service: S) -> Connection<I, S>
    where
        S: HttpService<Incoming>,
        S::Error: Into<BoxError>,
        S::ResBody: 'static,
        <S::ResBody as Body>::Error: Into<BoxError>,
        I: Read + Write + Unpin,
    {
        self.serve_connection_with_leftover(io, service, &[])
    }

    /// The same over an IO of which `leftover` has been read already.
    pub(crate) fn serve_connection_with_leftover<I, S>(&self, io: I, service: S, leftover: &[u8]) -> Connection<I, S>
    where
        S: HttpService<Incoming>,
        S::Error: Into<BoxError>,
        S::ResBody: 'static,
        <S::ResBody as Body>::Error: Into<BoxError>,
        I: Read + Write + Unpin,
    {
        Connection { core: Core::new(self.settings.clone(), io, service, leftover) }
    }

    /// A connection that has waited for too long already.
    pub(crate) fn time_out<I, S>(&self, io: I, service: S) -> Connection<I, S>
    where
        S: HttpService<Incoming>,
        S::Error: Into<BoxError>,
        S::ResBody: 'static,
        <S::ResBody as Body>::Error: Into<BoxError>,
        I: Read + Write + Unpin,
    {
        Connection { core: Core::timed_out(self.settings.clone(), io, service) }
    }

    /// A builder with settings that are shared already.
    #[allow(dead_code, reason = "for platforms without a slab")]
    pub(crate) fn from_shared(settings: Arc<Settings>) -> Self {
        Self { settings }
    }

    /// The settings that its connections share.
    pub(crate) fn shared(&self) -> &Arc<Settings> {
        &self.settings
    }
}

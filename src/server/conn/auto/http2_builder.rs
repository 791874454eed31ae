//! The settings of HTTP/2.

use std::fmt;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::{Read, Timer, Write};
use hyper::service::Service;

use super::{Builder, Http1Builder, HttpServerConnExec, UpgradeableConnection};
use crate::BoxError;

/// The settings of HTTP/2, see [`Builder::http2`].
pub struct Http2Builder<'a, E> {
    pub(super) inner: &'a mut Builder<E>,
}

impl<E> Http2Builder<'_, E> {
    /// The settings of HTTP/1.
    pub fn http1(&mut self) -> Http1Builder<'_, E> {
        Http1Builder { inner: self.inner }
    }

    /// As [`http2::Builder::max_pending_accept_reset_streams`](hyper::server::conn::http2::Builder::max_pending_accept_reset_streams).
    pub fn max_pending_accept_reset_streams(&mut self, max: impl Into<Option<usize>>) -> &mut Self {
        self.inner.http2.max_pending_accept_reset_streams(max);
        self
    }

    /// As [`http2::Builder::max_local_error_reset_streams`](hyper::server::conn::http2::Builder::max_local_error_reset_streams).
    pub fn max_local_error_reset_streams(&mut self, max: impl Into<Option<usize>>) -> &mut Self {
        self.inner.http2.max_local_error_reset_streams(max);
        self
    }

    /// As [`http2::Builder::initial_stream_window_size`](hyper::server::conn::http2::Builder::initial_stream_window_size).
    pub fn initial_stream_window_size(&mut self, sz: impl Into<Option<u32>>) -> &mut Self {
        self.inner.http2.initial_stream_window_size(sz);
        self
    }

    /// As [`http2::Builder::initial_connection_window_size`](hyper::server::conn::http2::Builder::initial_connection_window_size).
    pub fn initial_connection_window_size(&mut self, sz: impl Into<Option<u32>>) -> &mut Self {
        self.inner.http2.initial_connection_window_size(sz);
        self
    }

    /// As [`http2::Builder::adaptive_window`](hyper::server::conn::http2::Builder::adaptive_window).
    pub fn adaptive_window(&mut self, enabled: bool) -> &mut Self {
        self.inner.http2.adaptive_window(enabled);
        self
    }

    /// As [`http2::Builder::max_frame_size`](hyper::server::conn::http2::Builder::max_frame_size).
    pub fn max_frame_size(&mut self, sz: impl Into<Option<u32>>) -> &mut Self {
        self.inner.http2.max_frame_size(sz);
        self
    }

    /// As [`http2::Builder::max_concurrent_streams`](hyper::server::conn::http2::Builder::max_concurrent_streams).
    pub fn max_concurrent_streams(&mut self, max: impl Into<Option<u32>>) -> &mut Self {
        self.inner.http2.max_concurrent_streams(max);
        self
    }

    /// As [`http2::Builder::keep_alive_interval`](hyper::server::conn::http2::Builder::keep_alive_interval).
    pub fn keep_alive_interval(&mut self, interval: impl Into<Option<Duration>>) -> &mut Self {
        self.inner.http2.keep_alive_interval(interval);
        self
    }

    /// As [`http2::Builder::keep_alive_timeout`](hyper::server::conn::http2::Builder::keep_alive_timeout).
    pub fn keep_alive_timeout(&mut self, timeout: Duration) -> &mut Self {
        self.inner.http2.keep_alive_timeout(timeout);
        self
    }

    /// As [`http2::Builder::max_send_buf_size`](hyper::server::conn::http2::Builder::max_send_buf_size).
    ///
    /// # Panics
    ///
    /// When `max` is more than `u32::MAX`, as in hyper.
    pub fn max_send_buf_size(&mut self, max: usize) -> &mut Self {
        self.inner.http2.max_send_buf_size(max);
        self
    }

    /// As [`http2::Builder::enable_connect_protocol`](hyper::server::conn::http2::Builder::enable_connect_protocol).
    pub fn enable_connect_protocol(&mut self) -> &mut Self {
        self.inner.http2.enable_connect_protocol();
        self
    }

    /// As [`http2::Builder::max_header_list_size`](hyper::server::conn::http2::Builder::max_header_list_size).
    pub fn max_header_list_size(&mut self, max: u32) -> &mut Self {
        self.inner.http2.max_header_list_size(max);
        self
    }

    /// As [`http2::Builder::auto_date_header`](hyper::server::conn::http2::Builder::auto_date_header).
    pub fn auto_date_header(&mut self, enabled: bool) -> &mut Self {
        self.inner.http2.auto_date_header(enabled);
        self
    }

    /// The timer for HTTP/2's keep-alive. Default is tokio's.
    pub fn timer<M>(&mut self, timer: M) -> &mut Self
    where
        M: Timer + Send + Sync + 'static,
    {
        self.inner.http2.timer(timer);
        self
    }

    /// As [`Builder::serve_connection`].
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub async fn serve_connection<I, S, B>(&self, io: I, service: S) -> Result<(), BoxError>
    where
        S: Service<Request<Incoming>, Response = Response<B>>,
        S::Future: 'static,
        S::Error: Into<BoxError>,
        B: Body + 'static,
        B::Error: Into<BoxError>,
        I: Read + Write + Unpin + 'static,
        E: HttpServerConnExec<S::Future, B>,
    {
        self.inner.serve_connection(io, service).await
    }

    /// As [`Builder::serve_connection_with_upgrades`].
    pub fn serve_connection_with_upgrades<I, S, B>(&self, io: I, service: S) -> UpgradeableConnection<'_, I, S, E>
    where
        S: Service<Request<Incoming>, Response = Response<B>>,
        S::Future: 'static,
        S::Error: Into<BoxError>,
        B: Body + 'static,
        B::Error: Into<BoxError>,
        I: Read + Write + Unpin + Send + 'static,
        E: HttpServerConnExec<S::Future, B>,
    {
        self.inner.serve_connection_with_upgrades(io, service)
    }
}

impl<E: fmt::Debug> fmt::Debug for Http2Builder<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Http2Builder").field(&self.inner.http2).finish()
    }
}

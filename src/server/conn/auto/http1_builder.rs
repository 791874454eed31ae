//! The settings of HTTP/1.

use std::fmt;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::{Read, Timer, Write};
use hyper::service::Service;

#[cfg(feature = "http2")]
use super::Http2Builder;
use super::{Builder, HttpServerConnExec, UpgradeableConnection};
use crate::BoxError;

/// The settings of HTTP/1, see [`Builder::http1`].
pub struct Http1Builder<'a, E> {
    pub(super) inner: &'a mut Builder<E>,
}

impl<E> Http1Builder<'_, E> {
    /// The settings of HTTP/2.
    #[cfg(feature = "http2")]
    pub fn http2(&mut self) -> Http2Builder<'_, E> {
        Http2Builder { inner: self.inner }
    }

    /// As [`http1::Builder::auto_date_header`](crate::server::conn::http1::Builder::auto_date_header).
    pub fn auto_date_header(&mut self, enabled: bool) -> &mut Self {
        self.inner.http1.auto_date_header(enabled);
        self
    }

    /// As [`http1::Builder::half_close`](crate::server::conn::http1::Builder::half_close).
    pub fn half_close(&mut self, val: bool) -> &mut Self {
        self.inner.http1.half_close(val);
        self
    }

    /// As [`http1::Builder::keep_alive`](crate::server::conn::http1::Builder::keep_alive).
    pub fn keep_alive(&mut self, val: bool) -> &mut Self {
        self.inner.http1.keep_alive(val);
        self
    }

    /// As [`http1::Builder::title_case_headers`](crate::server::conn::http1::Builder::title_case_headers).
    pub fn title_case_headers(&mut self, enabled: bool) -> &mut Self {
        self.inner.http1.title_case_headers(enabled);
        self
    }

    /// As [`http1::Builder::ignore_invalid_headers`](crate::server::conn::http1::Builder::ignore_invalid_headers).
    pub fn ignore_invalid_headers(&mut self, enabled: bool) -> &mut Self {
        self.inner.http1.ignore_invalid_headers(enabled);
        self
    }

    /// As [`http1::Builder::preserve_header_case`](crate::server::conn::http1::Builder::preserve_header_case).
    pub fn preserve_header_case(&mut self, enabled: bool) -> &mut Self {
        self.inner.http1.preserve_header_case(enabled);
        self
    }

    /// As [`http1::Builder::max_headers`](crate::server::conn::http1::Builder::max_headers).
    pub fn max_headers(&mut self, val: usize) -> &mut Self {
        self.inner.http1.max_headers(val);
        self
    }

    /// As [`http1::Builder::header_read_timeout`](crate::server::conn::http1::Builder::header_read_timeout).
    pub fn header_read_timeout(&mut self, read_timeout: impl Into<Option<Duration>>) -> &mut Self {
        self.inner.http1.header_read_timeout(read_timeout);
        self
    }

    /// As [`http1::Builder::first_byte_timeout`](crate::server::conn::http1::Builder::first_byte_timeout). It also limits the time for the preface of HTTP/2.
    pub fn first_byte_timeout(&mut self, timeout: impl Into<Option<Duration>>) -> &mut Self {
        self.inner.http1.first_byte_timeout(timeout);
        self
    }

    /// As [`http1::Builder::idle_timeout`](crate::server::conn::http1::Builder::idle_timeout).
    pub fn idle_timeout(&mut self, timeout: impl Into<Option<Duration>>) -> &mut Self {
        self.inner.http1.idle_timeout(timeout);
        self
    }

    /// As [`http1::Builder::writev`](crate::server::conn::http1::Builder::writev).
    pub fn writev(&mut self, val: bool) -> &mut Self {
        self.inner.http1.writev(val);
        self
    }

    /// As [`http1::Builder::max_buf_size`](crate::server::conn::http1::Builder::max_buf_size).
    ///
    /// # Panics
    ///
    /// When `max` is less than 8192, as in hyper.
    pub fn max_buf_size(&mut self, max: usize) -> &mut Self {
        self.inner.http1.max_buf_size(max);
        self
    }

    /// As [`http1::Builder::pipeline_flush`](crate::server::conn::http1::Builder::pipeline_flush).
    pub fn pipeline_flush(&mut self, enabled: bool) -> &mut Self {
        self.inner.http1.pipeline_flush(enabled);
        self
    }

    /// As [`http1::Builder::timer`](crate::server::conn::http1::Builder::timer).
    pub fn timer<M>(&mut self, timer: M) -> &mut Self
    where
        M: Timer + Send + Sync + 'static,
    {
        self.inner.http1.timer(timer);
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

impl<E> fmt::Debug for Http1Builder<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Http1Builder").field(&self.inner.http1).finish()
    }
}

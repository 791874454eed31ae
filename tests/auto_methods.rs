//! Every public method of hyper's and hyper-util's builders and connections is there under the same name, with the same
//! arguments in the same order. The same code is compiled against theirs and against ours; only the paths differ.
#![cfg(feature = "http2")]
#![allow(clippy::unwrap_used, reason = "a test fails with its reason")]

use std::convert::Infallible;
use std::future::{Future, Ready};
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::{HttpService, Service};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::DuplexStream;

type Io = TokioIo<DuplexStream>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug)]
struct Hello;

impl Service<Request<Incoming>> for Hello {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn call(&self, _: Request<Incoming>) -> Self::Future {
        std::future::ready(Ok(Response::new("hello".into())))
    }
}

/// An IO whose client has left.
fn io() -> Io {
    TokioIo::new(tokio::io::duplex(64).0)
}

fn is_send<T: Send>(value: T) -> T {
    value
}

/// An output that is exactly this one.
fn outputs<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    future
}

macro_rules! calls_every_method {
    ($side:ident: $($http1:ident)::+, $($http2:ident)::+, $($auto:ident)::+, $($graceful:ident)::+) => {
        mod $side {
            use super::*;
            use $($auto)::+ as auto;
            use $($graceful)::+::{GracefulConnection, GracefulShutdown, Watcher};
            use $($http1)::+ as http1;
            use $($http2)::+ as http2;

            fn http1_builder() -> http1::Builder {
                let mut builder = http1::Builder::new();
                let chained: &mut http1::Builder = builder
                    .half_close(false)
                    .keep_alive(true)
                    .title_case_headers(false)
                    .allow_multiple_spaces_in_request_line_delimiters(false)
                    .ignore_invalid_headers(false)
                    .preserve_header_case(false)
                    .max_headers(100_usize)
                    .max_header_size(16_384_usize)
                    .header_read_timeout(Duration::from_secs(30))
                    .header_read_timeout(Some(Duration::from_secs(30)))
                    .header_read_timeout(None)
                    .writev(true)
                    .max_buf_size(16_384_usize)
                    .auto_date_header(false)
                    .pipeline_flush(false)
                    .timer(TokioTimer::new());
                assert!(format!("{chained:?}").starts_with("Builder"));
                builder.clone()
            }

            #[tokio::test]
            async fn http1_has_all_methods() {
                let builder = http1_builder();
                assert!(outputs::<hyper::Result<()>>(is_send(builder.serve_connection(io(), Hello))).await.is_ok());

                let mut connection: http1::Connection<Io, Hello> = builder.serve_connection(io(), Hello);
                assert!(format!("{connection:?}").starts_with("Connection"));
                Pin::new(&mut connection).graceful_shutdown();
                std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)).await.unwrap();
                let parts: http1::Parts<Io, Hello> = connection.into_parts();
                let http1::Parts { io: _, read_buf, service: again, .. } = parts;
                assert_eq!(read_buf, Bytes::new());

                let parts = is_send(builder.serve_connection(io(), again).without_shutdown());
                let parts: http1::Parts<Io, Hello> = outputs::<hyper::Result<_>>(parts).await.unwrap();
                assert!(format!("{parts:?}").starts_with("Parts"));

                let upgradeable: http1::UpgradeableConnection<Io, Hello> =
                    builder.serve_connection(parts.io, parts.service).with_upgrades();
                assert!(outputs::<hyper::Result<()>>(is_send(upgradeable)).await.is_ok());
                let mut upgradeable = builder.serve_connection(io(), Hello).with_upgrades();
                Pin::new(&mut upgradeable).graceful_shutdown();
                let parts: Option<http1::Parts<Io, Hello>> = upgradeable.into_parts();
                assert!(parts.is_some());
            }

            /// The bounds are hyper's: nothing here is more than it asks for.
            fn _http1_bounds<I, S, B>(io: I, service: S) -> impl Future<Output = hyper::Result<()>>
            where
                S: HttpService<Incoming, ResBody = B>,
                S::Error: Into<BoxError>,
                B: http_body::Body + 'static,
                B::Error: Into<BoxError>,
                I: hyper::rt::Read + hyper::rt::Write + Unpin,
            {
                http1::Builder::new().serve_connection(io, service)
            }

            #[tokio::test]
            async fn http2_has_all_methods() {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder
                    .max_pending_accept_reset_streams(20)
                    .max_local_error_reset_streams(1024)
                    .initial_stream_window_size(65_535)
                    .initial_connection_window_size(65_535)
                    .adaptive_window(false)
                    .max_frame_size(16_384)
                    .max_concurrent_streams(200)
                    .keep_alive_interval(Duration::from_secs(20))
                    .keep_alive_timeout(Duration::from_secs(20))
                    .max_send_buf_size(16_384)
                    .enable_connect_protocol()
                    .header_table_size(4096)
                    .max_header_list_size(16_384)
                    .timer(TokioTimer::new())
                    .auto_date_header(false);
                let connection: http2::Connection<Io, Hello, TokioExecutor> =
                    builder.clone().serve_connection(io(), Hello);
                let mut connection = pin!(is_send(connection));
                connection.as_mut().graceful_shutdown();
                assert!(outputs::<hyper::Result<()>>(connection).await.is_err(), "there is no client");
            }

            fn auto_builder() -> auto::Builder<TokioExecutor> {
                let mut builder = auto::Builder::new(TokioExecutor::new());
                let http1: &mut auto::Http1Builder<'_, TokioExecutor> = &mut builder.http1();
                http1
                    .auto_date_header(false)
                    .half_close(false)
                    .keep_alive(true)
                    .title_case_headers(false)
                    .ignore_invalid_headers(false)
                    .preserve_header_case(false)
                    .max_headers(100_usize)
                    .header_read_timeout(Duration::from_secs(30))
                    .header_read_timeout(None)
                    .writev(true)
                    .max_buf_size(16_384_usize)
                    .pipeline_flush(false)
                    .timer(TokioTimer::new());
                let http2: &mut auto::Http2Builder<'_, TokioExecutor> = &mut http1.http2();
                http2
                    .max_pending_accept_reset_streams(20)
                    .max_local_error_reset_streams(1024)
                    .initial_stream_window_size(65_535)
                    .initial_connection_window_size(65_535)
                    .adaptive_window(false)
                    .max_frame_size(16_384)
                    .max_concurrent_streams(200)
                    .keep_alive_interval(Duration::from_secs(20))
                    .keep_alive_timeout(Duration::from_secs(20))
                    .max_send_buf_size(16_384_usize)
                    .enable_connect_protocol()
                    .max_header_list_size(16_384_u32)
                    .timer(TokioTimer::new())
                    .auto_date_header(false);
                http2.http1().keep_alive(true);
                builder.http2().keep_alive_interval(None);
                builder
            }

            #[tokio::test]
            async fn auto_has_all_methods() {
                let mut builder: auto::Builder<TokioExecutor> = auto_builder().clone();
                assert!(format!("{builder:?}").starts_with("Builder"));
                assert!(builder.is_http1_available() && builder.is_http2_available());
                let http1_only = auto_builder().http1_only();
                assert!(http1_only.is_http1_available() && !http1_only.is_http2_available());
                let http2_only = auto_builder().http2_only();
                assert!(!http2_only.is_http1_available() && http2_only.is_http2_available());
                let _: auto::Builder<TokioExecutor> =
                    auto::Builder::default().title_case_headers(true).preserve_header_case(true);

                let borrowed: auto::Connection<'_, Io, Hello, TokioExecutor> =
                    builder.serve_connection(io(), Hello);
                let owned: auto::Connection<'static, Io, Hello, TokioExecutor> = borrowed.into_owned();
                let mut connection = pin!(is_send(owned));
                connection.as_mut().graceful_shutdown();
                assert!(outputs::<Result<(), BoxError>>(connection).await.is_err());

                let borrowed: auto::UpgradeableConnection<'_, Io, Hello, TokioExecutor> =
                    builder.serve_connection_with_upgrades(io(), Hello);
                let owned: auto::UpgradeableConnection<'static, Io, Hello, TokioExecutor> = borrowed.into_owned();
                let mut connection = pin!(is_send(owned));
                connection.as_mut().graceful_shutdown();
                assert!(outputs::<Result<(), BoxError>>(connection).await.is_err());

                let served = outputs::<Result<(), BoxError>>(is_send(builder.http1().serve_connection(io(), Hello))).await;
                assert!(served.is_ok());
                assert!(builder.http2().serve_connection(io(), Hello).await.is_ok());
                assert!(builder.http1().serve_connection_with_upgrades(io(), Hello).await.is_ok());
                assert!(builder.http2().serve_connection_with_upgrades(io(), Hello).await.is_ok());
            }

            #[test]
            fn auto_panics_when_the_version_is_chosen_twice() {
                for twice in [
                    || auto_builder().http1_only().http1_only(),
                    || auto_builder().http1_only().http2_only(),
                    || auto_builder().http2_only().http1_only(),
                    || auto_builder().http2_only().http2_only(),
                ] {
                    assert!(std::panic::catch_unwind(twice).is_err());
                }
            }

            fn _auto_bounds<I, S, B, E>(builder: &auto::Builder<E>, io: I, service: S)
            where
                S: Service<Request<Incoming>, Response = Response<B>>,
                S::Future: 'static,
                S::Error: Into<BoxError>,
                B: http_body::Body + 'static,
                B::Error: Into<BoxError>,
                I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
                E: auto::HttpServerConnExec<S::Future, B>,
            {
                drop(builder.serve_connection(io, service));
            }

            /// What the two take apart an upgraded connection into.
            fn _downcast(upgraded: hyper::upgrade::Upgraded) -> Result<(Io, Bytes), hyper::upgrade::Upgraded> {
                let parts: auto::upgrade::Parts<Io> = auto::upgrade::downcast::<Io>(upgraded)?;
                assert!(format!("{parts:?}").starts_with("Parts"));
                Ok((parts.io, parts.read_buf))
            }

            fn _graceful<C: GracefulConnection>(mut connection: Pin<&mut C>) -> Option<C::Error> {
                connection.as_mut().graceful_shutdown();
                None
            }

            #[tokio::test]
            async fn graceful_has_all_methods() {
                let _: GracefulShutdown = GracefulShutdown::default();
                let graceful = GracefulShutdown::new();
                assert!(format!("{graceful:?}").starts_with("GracefulShutdown"));
                assert_eq!(graceful.count(), 0_usize);
                let watcher: Watcher = graceful.watcher();
                assert!(!format!("{watcher:?}").is_empty());
                let builder = auto_builder();
                let first = watcher.watch(builder.serve_connection(io(), Hello));
                let second = graceful.watch(http1_builder().serve_connection(io(), Hello));
                assert_eq!(graceful.count(), 2);
                assert!(outputs::<Result<(), BoxError>>(is_send(first)).await.is_ok());
                assert!(outputs::<hyper::Result<()>>(is_send(second)).await.is_ok());
                outputs::<()>(is_send(graceful.shutdown())).await;
            }
        }
    };
}

calls_every_method!(theirs:
    hyper::server::conn::http1, hyper::server::conn::http2, hyper_util::server::conn::auto, hyper_util::server::graceful);
calls_every_method!(ours:
    hyper_deferred::server::conn::http1, hyper_deferred::server::conn::http2, hyper_deferred::server::conn::auto,
    hyper_deferred::server::graceful);

//! One connection, its tasks, and an executor that polls what was woken and nothing else.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use proptest::test_runner::TestCaseError;

use super::case::{Case, Mode, Settings};
use super::log::{Actor, Log, describe};
use super::service::Planned;
use super::shared::Shared;
use super::wire::{Wire, WireIo};

/// Calls the same methods of a builder of either make.
macro_rules! configure {
    ($builder:ident, $settings:expr) => {
        let Settings {
            half_close,
            keep_alive,
            pipeline_flush,
            max_buf_size,
            max_header_size,
            max_headers,
            title_case_headers,
            preserve_header_case,
            lenient,
            writev,
        } = $settings;
        // The order in which hyper 1.12 applies them does not matter: they are kept and applied to each connection.
        $builder
            .auto_date_header(false)
            .header_read_timeout(None)
            .half_close(half_close)
            .keep_alive(keep_alive)
            .pipeline_flush(pipeline_flush)
            .title_case_headers(title_case_headers)
            .preserve_header_case(preserve_header_case)
            .ignore_invalid_headers(lenient)
            .allow_multiple_spaces_in_request_line_delimiters(lenient);
        if let Some(max) = max_buf_size {
            $builder.max_buf_size(max);
        }
        if let Some(max) = max_header_size {
            $builder.max_header_size(max);
        }
        if let Some(max) = max_headers {
            $builder.max_headers(max);
        }
        if let Some(writev) = writev {
            $builder.writev(writev);
        }
    };
}
/// A connection of either make.
pub trait Connection {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>>;
    fn graceful_shutdown(&mut self);
    fn into_parts(self: Box<Self>) -> Option<(WireIo, Bytes)>;
    fn is_dormant(&self) -> bool;
}

/// A task's waker; only the one of the last poll counts, as a future may assume no more than that.
#[derive(Debug, Default)]
struct Woken(AtomicBool);

struct Task {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    woken: Arc<Woken>,
}

pub struct World {
    pub wire: Arc<Wire>,
    pub log: Log,
    pub shared: Arc<Shared>,
    connection: Option<Box<dyn Connection>>,
    take_apart: bool,
    woken: Arc<Woken>,
    fresh_wakers: bool,
    tasks: Vec<Option<Task>>,
    /// How the connection ended.
    pub result: Option<Result<(), String>>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Woken {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// Polls that one step may take before it is a loop that never ends.
const POLLS_MAX: usize = 200_000;

pub fn hyper_builder(settings: Settings) -> hyper::server::conn::http1::Builder {
    let mut builder = hyper::server::conn::http1::Builder::new();
    configure!(builder, settings);
    builder
}

pub fn our_builder(settings: Settings) -> hyper_deferred::server::conn::http1::Builder {
    let mut builder = hyper_deferred::server::conn::http1::Builder::new();
    configure!(builder, settings);
    builder
}

impl World {
    pub fn hyper(case: &Case) -> Self {
        let builder = hyper_builder(case.settings);
        Self::new(case, |io, service| Box::new(Hyper::new(case.mode, builder.serve_connection(io, service))))
    }

    pub fn ours(case: &Case) -> Self {
        let builder = our_builder(case.settings);
        Self::new(case, |io, service| Box::new(Ours::new(case.mode, builder.serve_connection(io, service))))
    }

    fn new(case: &Case, connection: impl FnOnce(WireIo, Planned) -> Box<dyn Connection>) -> Self {
        let wire = Wire::new(case.wire);
        let shared = Shared::new(case.plans.clone());
        let log = shared.log.clone();
        let connection = connection(WireIo::new(wire.clone(), log.clone()), Planned(shared.clone()));
        Self {
            wire,
            log,
            shared,
            connection: Some(connection),
            take_apart: case.mode == Mode::WithoutShutdown,
            woken: Woken::new(),
            fresh_wakers: case.fresh_wakers,
            tasks: Vec::new(),
            result: None,
        }
    }

    /// Polls what was woken until nothing is.
    pub fn settle(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..POLLS_MAX {
            if !self.poll_connection() && !self.poll_tasks() {
                return Ok(());
            }
        }
        Err(TestCaseError::fail("the connection never comes to rest"))
    }

    fn poll_connection(&mut self) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        if !self.woken.take() {
            return false;
        }
        if self.fresh_wakers {
            self.woken = Arc::new(Woken::default());
        }
        let waker = Waker::from(self.woken.clone());
        // hyper has assertions that its own bugs violate, in debug builds.
        let poll = catch_unwind(AssertUnwindSafe(|| connection.poll(&mut Context::from_waker(&waker))));
        let result = match poll {
            Ok(poll) => poll.map_err(|error| describe(&error)),
            Err(panic) => Poll::Ready(Err(format!("panicked: {:?}", panic.downcast_ref::<&str>()))),
        };
        if let Poll::Ready(result) = result {
            self.log.note(Actor::Connection, format!("ended: {result:?}"));
            let ended_well = result.is_ok();
            self.result = Some(result);
            if self.take_apart && ended_well {
                self.into_parts();
            } else {
                self.connection = None;
            }
        }
        true
    }

    fn poll_tasks(&mut self) -> bool {
        for future in std::mem::take(&mut *self.shared.tasks.lock().unwrap()) {
            self.tasks.push(Some(Task { future, woken: Woken::new() }));
        }
        let mut polled = false;
        for slot in &mut self.tasks {
            let Some(task) = slot else { continue };
            if !task.woken.take() {
                continue;
            }
            polled = true;
            let waker = Waker::from(task.woken.clone());
            if task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                *slot = None;
            }
        }
        polled
    }

    /// Polls the connection though nothing has woken it.
    pub fn poll_for_nothing(&self) {
        self.woken.wake_by_ref();
    }

    pub fn graceful_shutdown(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.graceful_shutdown();
            self.woken.wake_by_ref();
        }
    }

    pub fn drop_connection(&mut self) {
        self.connection = None;
    }

    /// Takes the connection apart: what was read and not used, and what was not read, are the client's next bytes.
    pub fn into_parts(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if let Some((io, read_buf)) = connection.into_parts() {
            let next = [&read_buf[..], &self.wire.unread()].concat();
            self.log.note(Actor::Connection, format!("taken apart before \"{}\"", next.escape_ascii()));
            drop(io);
        } else {
            self.log.note(Actor::Connection, "not taken apart");
        }
    }

    pub fn is_over(&self) -> bool {
        self.connection.is_none()
    }

    pub fn is_dormant(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.is_dormant())
    }
}

/// Makes a `Connection` of the connections of either make.
macro_rules! connection {
    ($name:ident, $make:ident, |$connection:ident| $is_dormant:expr) => {
        enum $name {
            Plain($make::server::conn::http1::Connection<WireIo, Planned>),
            Upgradeable($make::server::conn::http1::UpgradeableConnection<WireIo, Planned>),
            WithoutShutdown($make::server::conn::http1::Connection<WireIo, Planned>),
        }

        impl $name {
            fn new(mode: Mode, connection: $make::server::conn::http1::Connection<WireIo, Planned>) -> Self {
                match mode {
                    Mode::Plain => Self::Plain(connection),
                    Mode::Upgrades => Self::Upgradeable(connection.with_upgrades()),
                    Mode::WithoutShutdown => Self::WithoutShutdown(connection),
                }
            }
        }

        impl Connection for $name {
            fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
                match self {
                    Self::Plain(connection) => Pin::new(connection).poll(cx),
                    Self::Upgradeable(connection) => Pin::new(connection).poll(cx),
                    Self::WithoutShutdown(connection) => connection.poll_without_shutdown(cx),
                }
            }

            fn graceful_shutdown(&mut self) {
                match self {
                    Self::Plain(connection) | Self::WithoutShutdown(connection) => {
                        Pin::new(connection).graceful_shutdown();
                    }
                    Self::Upgradeable(connection) => Pin::new(connection).graceful_shutdown(),
                }
            }

            fn into_parts(self: Box<Self>) -> Option<(WireIo, Bytes)> {
                let parts = match *self {
                    Self::Plain(connection) | Self::WithoutShutdown(connection) => connection.into_parts(),
                    Self::Upgradeable(connection) => connection.into_parts()?,
                };
                Some((parts.io, parts.read_buf))
            }

            fn is_dormant(&self) -> bool {
                match self {
                    Self::Plain($connection) | Self::WithoutShutdown($connection) => $is_dormant,
                    Self::Upgradeable($connection) => $is_dormant,
                }
            }
        }
    };
}

connection!(Hyper, hyper, |_connection| false);
connection!(Ours, hyper_deferred, |connection| connection.is_dormant());

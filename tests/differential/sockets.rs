//! The same cases over real sockets: plain hyper in a task for each connection, and the acceptor.
//!
//! Servers and clients share a thread, so that a client can wait until nothing happens any more. What is compared are the
//! bytes that a client gets, how its connection ends, and what the service has seen, all when the case is over: a
//! portion that a client sends may reach its server in pieces, or together with the next. Cases whose result depends on
//! that are left out, as are steps that an acceptor has no word for.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Duration, Instant};

use http::Version;
use hyper_deferred::Acceptor;
use hyper_deferred::acceptor::Snapshot;
use hyper_util::rt::TokioIo;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::task::{JoinHandle, LocalSet, spawn_local, yield_now};

use super::case::{self, Case, Step};
use super::cases;
use super::crowd::{self, CROWD, Crowded};
use super::log::{Actor, Event, Events};
use super::plan::{Answer, BodyStep, Plan, ReadBody, Size, Wait};
use super::service::{Planned, REFUSED, UNANSWERED};
use super::shared::Shared;
use super::wire::End;
use super::world::{hyper_builder, our_builder};

/// Turns of the runtime that nothing may happen in before it is believed that nothing will.
const QUIET_TURNS: usize = 12;
/// A packet that the kernel keeps back, to send it with others, is kept for 40 ms.
const KERNEL_PATIENCE: Duration = Duration::from_millis(100);
/// Small, so that a long response has to wait for its client.
const BUFFER_BYTES: usize = 4096;
/// Gates that a case can have at the most, and some more.
const OPENS_MAX: usize = 1000;

/// A server of either make, and its client.
struct Side {
    shared: Arc<Shared>,
    server: JoinHandle<()>,
    client: TcpStream,
    /// What the client has still to send.
    outbox: VecDeque<u8>,
    /// How much it may read now.
    window: usize,
    read: Vec<u8>,
    end: Option<ClientEnd>,
    /// Whether the connection has ended with an error, where that is known.
    failed: Rc<Cell<bool>>,
    /// The connection's task, where that is known.
    task: Rc<RefCell<Option<Waker>>>,
}

/// How the client sees the end of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientEnd {
    Eof,
    Reset,
}

#[test]
fn nothing_tells_the_acceptor_from_hyper() {
    check_cases(cases(), 0);
}

/// A case takes longer with a crowd, so that there are fewer.
#[test]
fn nothing_tells_an_acceptor_with_a_crowd_from_hyper() {
    check_cases(cases() / 4, CROWD);
}

fn check_cases(cases: u32, crowd: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = Config { cases, max_shrink_iters: 2_000, failure_persistence: None, ..Config::default() };
    let ways = Cell::new([0; 4]);
    let result = TestRunner::new(config).run(&case::case(), |case| {
        let local = LocalSet::new();
        let stats = local.block_on(&runtime, run(&case, crowd))?;
        let went = [stats.resumed, stats.answered, stats.hung_up, stats.graduated];
        ways.set(std::array::from_fn(|n| ways.get()[n] + went[n]));
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, case)) => panic!("{reason}\nsmallest case: {case:?}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
    assert!(ways.get().iter().all(|times| *times >= u64::from(cases / 100)), "all ways are gone: {:?}", ways.get());
}

#[test]
fn a_request_with_both_lengths_is_the_last_though_its_body_comes_later() {
    let heads = [
        "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 10\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 10\r\ntransfer-encoding: chunked\r\n\r\n",
    ];
    for head in heads {
        for before in ["", "GET / HTTP/1.1\r\n\r\n"] {
            // The body alone has nothing suspicious in it, in whatever pieces it comes.
            let steps = vec![Step::Deliver(before.len() + head.len()), Step::Deliver(1), Step::Deliver(2)];
            let plans = vec![Plan { wait_after: Wait::Gate, ..Plan::new() }];
            check(&Case::new(format!("{before}{head}3\r\nabc\r\n0\r\n\r\n"), plans, steps));
        }
    }
}

#[test]
fn an_upgrade_that_is_granted_while_its_body_comes_is_answered() {
    // The client is not looked at before that, so that the socket is new to tokio when the response is written.
    let plan = Plan { read: ReadBody::SomeThenYield(1), wait_before: Wait::Gate, take_upgrade: true, ..Plan::new() };
    let head = "CONNECT / HTTP/1.1\r\ncontent-length: 10\r\n\r\n";
    let steps = vec![Step::Deliver(head.len() + 1), Step::Open(0)];
    let mut case = Case::new(format!("{head}xxxxxxxxxx"), vec![plan], steps);
    case.settings.half_close = true;
    check(&case);
}

#[test]
fn a_body_that_is_dropped_is_drained_though_its_response_finds_no_room() {
    let body = vec![BodyStep::Data(20_000)];
    let answer =
        Answer::Response { status: 200, version: Version::HTTP_11, headers: Vec::new(), size: Size::Unknown, body };
    let plan = Plan { read: ReadBody::Drop, wait_before: Wait::Gate, answer, ..Plan::new() };
    let head = "POST / HTTP/1.1\r\ncontent-length: 10\r\n\r\n";
    let steps = vec![Step::Deliver(head.len() + 1), Step::Deliver(1)];
    let mut case = Case::new(format!("{head}xxxxxxxxxxGET / HTTP/1.1\r\n\r\n"), vec![plan], steps);
    case.settings.half_close = true;
    check(&case);
}

#[test]
fn what_finds_no_room_is_sent_before_an_upgrade_that_nobody_takes() {
    let answer = |len| {
        let (headers, body) = (Vec::new(), vec![BodyStep::Data(len)]);
        Answer::Response { status: 200, version: Version::HTTP_11, headers, size: Size::Unknown, body }
    };
    let plan = |len| Plan { read: ReadBody::DropInCall, answer: answer(len), ..Plan::new() };
    let requests = "GET / HTTP/1.1\r\n\r\nCONNECT host:443 HTTP/1.1\r\n\r\n";
    // There is a length that leaves a few bytes, which would be kept for the end of the slice.
    for len in (10_000..10_400).step_by(4) {
        check(&Case::new(requests.to_owned(), vec![plan(len), plan(0)], vec![Step::DeliverRest]));
    }
}

#[test]
fn hyper_is_not_released_while_a_body_is_to_come() {
    let head = "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
    let plan = Plan { read: ReadBody::DropInCall, wait_after: Wait::Yield, ..Plan::new() };
    let case = Case::new(format!("{head}0\r\nx-sum: 1\r\n\r\n"), vec![plan], vec![Step::Deliver(head.len())]);
    check_beside(CROWD, &case);
}

#[track_caller]
fn check(case: &Case) {
    check_beside(0, case);
}

#[track_caller]
fn check_beside(crowd: usize, case: &Case) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, run(case, crowd)).unwrap_or_else(|error| panic!("{error}\n{case:?}"));
}

/// Plays a case, with so many others there whose requests wait.
async fn run(case: &Case, crowd: usize) -> Result<Snapshot, TestCaseError> {
    if case.depends_on_reads() {
        return Ok(Snapshot::default());
    }
    let mut hyper = Side::hyper(case);
    let acceptor = Acceptor::from_std(listen()).unwrap().http1(&our_builder(case.settings));
    let acceptor = acceptor.shutdown_timeout(Duration::ZERO);
    let (stats, shutdown) = (acceptor.stats(), acceptor.shutdown_handle());
    let mut ours = Side::new(case, acceptor.local_addr().unwrap(), |service| async move {
        acceptor.serve(Crowded(service)).await.unwrap();
    });
    let crowd = crowd::gather(crowd, ours.client.peer_addr().unwrap(), &stats).await;
    let left_early = play(case, &mut hyper, &mut ours).await;

    compare(case, &hyper, &ours, left_early)?;
    // Whoever is left is closed, and nobody is forgotten.
    shutdown.shutdown();
    drop((ours.client, crowd));
    ours.server.await.unwrap();
    let stats = stats.snapshot();
    if [stats.parked, stats.idle, stats.active, stats.slab_bytes] != [0; 4] {
        return Err(TestCaseError::fail(format!("something is left: {stats:?}")));
    }
    Ok(stats)
}

/// Plays a case to its end. Says whether the client has left before it had its answers.
async fn play(case: &Case, hyper: &mut Side, ours: &mut Side) -> bool {
    let mut delivered = 0;
    let mut left = false;
    for step in &case.steps {
        let rest = &case.input.0[delivered..];
        match *step {
            Step::Deliver(len) if !left => {
                let len = len.min(rest.len());
                deliver(hyper, ours, &rest[..len]);
                delivered += len;
            }
            Step::DeliverRest | Step::Trickle if !left => {
                deliver(hyper, ours, rest);
                delivered += rest.len();
            }
            Step::Open(n) => open(n, hyper, ours, false),
            Step::OpenElsewhere(n) => open(n, hyper, ours, true),
            Step::Allow(bytes) => {
                for side in [&mut *hyper, &mut *ours] {
                    side.window = side.window.saturating_add(bytes);
                }
            }
            Step::End(end) => {
                left = true;
                leave(hyper, ours, end).await;
            }
            _ => continue,
        }
        settle(hyper, ours).await;
    }
    for side in [&mut *hyper, &mut *ours] {
        side.window = usize::MAX;
    }
    if !left {
        deliver(hyper, ours, &case.input.0[delivered..]);
    }
    settle(hyper, ours).await;
    if case.leaves_first && !left {
        left = true;
        leave(hyper, ours, End::Eof).await;
        settle(hyper, ours).await;
    }
    open_all(hyper, ours).await;
    if !left {
        leave(hyper, ours, End::Eof).await;
        settle(hyper, ours).await;
        open_all(hyper, ours).await;
    }
    settle_unless(hyper, ours, |side| side.end.is_some()).await;
    left
}

fn deliver(hyper: &mut Side, ours: &mut Side, bytes: &[u8]) {
    hyper.outbox.extend(bytes);
    ours.outbox.extend(bytes);
}

/// What the client had to say is said before it leaves.
async fn leave(hyper: &mut Side, ours: &mut Side, end: End) {
    settle(hyper, ours).await;
    for side in [hyper, ours] {
        if end == End::Reset {
            SockRef::from(&side.client).set_linger(Some(Duration::ZERO)).unwrap();
            // The old socket is reset when nothing refers to it any more.
            side.client = unconnected();
            side.end = Some(ClientEnd::Reset);
        } else {
            let _gone_already = side.client.shutdown(Shutdown::Write);
        }
    }
}

fn open(n: usize, hyper: &Side, ours: &Side, elsewhere: bool) {
    let gates = hyper.shared.waiting_gates();
    let Some(gate) = gates.get(n % gates.len().max(1)).copied() else { return };
    for side in [hyper, ours] {
        if elsewhere {
            let shared = side.shared.clone();
            std::thread::spawn(move || shared.open(gate)).join().unwrap();
        } else {
            side.shared.open(gate);
        }
    }
}

async fn open_all(hyper: &mut Side, ours: &mut Side) {
    for _ in 0..OPENS_MAX {
        let mut gates = hyper.shared.waiting_gates();
        gates.extend(ours.shared.waiting_gates());
        if gates.is_empty() {
            return;
        }
        for gate in gates {
            hyper.shared.open(gate);
            ours.shared.open(gate);
        }
        settle(hyper, ours).await;
    }
}

/// Turns the runtime until nothing happens any more.
async fn settle(hyper: &mut Side, ours: &mut Side) {
    settle_unless(hyper, ours, |_| true).await;
    // hyper makes some of its progress only when it is polled again, see `run.rs`.
    if let Some(task) = hyper.task.take() {
        task.wake();
        settle_unless(hyper, ours, |_| true).await;
    }
}

/// The same, and until `is_over`, for as long as a kernel may keep a packet back.
async fn settle_unless(hyper: &mut Side, ours: &mut Side, is_over: impl Fn(&Side) -> bool) {
    let mut quiet = 0;
    let mut last_moved = Instant::now();
    while quiet < QUIET_TURNS || !(is_over(hyper) && is_over(ours)) && last_moved.elapsed() < KERNEL_PATIENCE {
        yield_now().await;
        let moved = hyper.pump() | ours.pump();
        quiet = if moved { 0 } else { quiet + 1 };
        if moved {
            last_moved = Instant::now();
        }
    }
}

fn compare(case: &Case, hyper: &Side, ours: &Side, left_early: bool) -> Result<(), TestCaseError> {
    if hyper.server.is_finished() {
        // hyper has assertions that its own bugs violate, in debug builds.
        return Ok(());
    }
    let fail = |what: &str| {
        let show = |side: &Side| {
            let last = &side.read[side.read.len().saturating_sub(100)..];
            format!("{:?}, {} bytes that end with \"{}\"", side.end, side.read.len(), last.escape_ascii())
        };
        Err(TestCaseError::fail(format!("{what} differ\nhyper: {}\nours: {}", show(hyper), show(ours))))
    };
    let refused = hyper.shared.upgrade_refused.load(Ordering::Relaxed);
    let (at_hyper, at_ours) = (hyper.events(refused), ours.events(refused));
    // Ours drops a request whose client has gone also where hyper does not look.
    let unanswered = Event::Note(UNANSWERED.to_owned());
    let left_early = left_early || at_ours.values().any(|events| events.contains(&unanswered));
    // hyper carries a refused upgrade out where ours closes, see `run.rs`: the client is left with an open connection.
    let carried_out = refused && hyper.end.is_none();
    if hyper.end.is_some() != ours.end.is_some() && !left_early && !carried_out {
        return fail("the ends");
    }
    // A reset takes along what is under way. Where a client leaves in the middle, or hyper fails, or carries a refused
    // upgrade out, before it has written all, it is the kernel's buffers that decide how much has been written by then.
    let reset = [hyper, ours].iter().any(|side| side.end == Some(ClientEnd::Reset));
    if left_early || reset || refused || hyper.failed.get() {
        let same = hyper.read.starts_with(&ours.read) || ours.read.starts_with(&hyper.read);
        return if same { Ok(()) } else { fail("the first bytes") };
    }
    // So they do where it closes or upgrades with bytes of the client in hand, for which it puts flushing off, and drops
    // what is not written by then.
    let same_len = hyper.read.iter().zip(&ours.read).take_while(|(at_hyper, at_ours)| at_hyper == at_ours).count();
    let unflushed = case.settings.pipeline_flush && same_len >= BUFFER_BYTES / 2 && hyper.end.is_some();
    if hyper.read != ours.read && !unflushed {
        return fail("the bytes");
    }
    if at_hyper != at_ours {
        return Err(TestCaseError::fail(format!("what was seen differs\nhyper: {at_hyper:#?}\nours: {at_ours:#?}")));
    }
    Ok(())
}

// ===== impl Side =====

impl Side {
    fn hyper(case: &Case) -> Self {
        let listener = listen();
        let addr = listener.local_addr().unwrap();
        let builder = hyper_builder(case.settings);
        let failed = Rc::new(Cell::new(false));
        let task = Rc::new(RefCell::new(None));
        let (failing, polling) = (failed.clone(), task.clone());
        let mut side = Self::new(case, addr, |service| async move {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
            let served = poll_fn(|cx| {
                *polling.borrow_mut() = Some(cx.waker().clone());
                Pin::new(&mut connection).poll(cx)
            });
            failing.set(served.await.is_err());
            drop(connection);
            // The server is over only when it panics.
            std::future::pending::<()>().await;
        });
        (side.failed, side.task) = (failed, task);
        side
    }

    fn new<F>(case: &Case, addr: SocketAddr, serve: impl FnOnce(Planned) -> F) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let shared = Shared::new(case.plans.clone());
        let server = spawn_local(serve(Planned(shared.clone())));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(BUFFER_BYTES).unwrap();
        socket.set_tcp_nodelay(true).unwrap();
        socket.connect(&addr.into()).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self {
            shared,
            server,
            client: socket.into(),
            outbox: VecDeque::new(),
            window: case.wire.window,
            read: Vec::new(),
            end: None,
            failed: Rc::default(),
            task: Rc::default(),
        }
    }

    /// Does what the client can do now. Says whether that was anything.
    fn pump(&mut self) -> bool {
        let mut moved = false;
        for task in std::mem::take(&mut *self.shared.tasks.lock().unwrap()) {
            spawn_local(task);
            moved = true;
        }
        moved | self.send() | self.receive()
    }

    fn send(&mut self) -> bool {
        if self.outbox.is_empty() {
            return false;
        }
        match self.client.write(self.outbox.make_contiguous()) {
            Ok(len) => drop(self.outbox.drain(..len)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            // The server has closed: nobody takes it.
            Err(_) => self.outbox.clear(),
        }
        true
    }

    fn receive(&mut self) -> bool {
        if self.end.is_some() || self.window == 0 {
            return false;
        }
        let mut room = [0; 16_384];
        let room_len = room.len().min(self.window);
        let read = self.client.read(&mut room[..room_len]);
        // The server has room for more when it knows what has come.
        let _closed = SockRef::from(&self.client).set_tcp_quickack(true);
        match read {
            Ok(0) => self.end = Some(ClientEnd::Eof),
            Ok(len) => {
                self.read.extend_from_slice(&room[..len]);
                self.window -= len;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(_) => self.end = Some(ClientEnd::Reset),
        }
        true
    }

    /// What its service has seen.
    fn events(&self, forget_refused: bool) -> Events {
        let mut events = self.shared.log.take();
        events.retain(|actor, _| !matches!(actor, Actor::Connection | Actor::Io));
        if forget_refused {
            // Ours forgets a refused upgrade when the connection goes dormant, see `run.rs`.
            events.retain(|actor, _| !matches!(actor, Actor::Upgrade(_)));
            let is_refused = |note: &str| REFUSED.iter().any(|refused| note.starts_with(refused));
            events.values_mut().for_each(|events| {
                events.retain(|event| !matches!(event, Event::Note(note) if is_refused(note)));
            });
            events.retain(|_, events| !events.is_empty());
        }
        events
    }
}

// ===== helpers =====

/// A listener whose connections have small buffers to send from.
fn listen() -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_send_buffer_size(BUFFER_BYTES).unwrap();
    // Of tens of thousands of cases in a minute all ports are in use by connections that were closed just now.
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(1).unwrap();
    socket.into()
}

fn unconnected() -> TcpStream {
    Socket::new(Domain::IPV4, Type::STREAM, None).unwrap().into()
}

//! A service that follows a plan: how it treats each request, and what it answers.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBuf, Write};
use hyper::service::Service;
use hyper::upgrade::{OnUpgrade, Upgraded};

use super::log::{Actor, Log, describe};

/// What is done with a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadBody {
    /// Dropped in `call`.
    DropInCall,
    /// Dropped in the first poll.
    Drop,
    /// Kept, and never looked at.
    Keep,
    /// Polled once and kept.
    PollOnce,
    /// Read until this many bytes have come, and dropped.
    Some(usize),
    /// The same, in the poll after that in which the last came.
    SomeThenYield(usize),
    /// Read until this many bytes have come, and kept.
    SomeAndKeep(usize),
    /// Read to its end and dropped.
    All,
    /// Read to its end and kept for ever.
    AllAndKeep,
    /// Handed to a task which reads it to its end.
    Task,
    /// Handed to a task which drops it when its gate is opened.
    DropByTask,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    No,
    /// The task wakes itself.
    Yield,
    /// The driver opens a gate.
    Gate,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub read: ReadBody,
    pub wait_before: Wait,
    pub wait_after: Wait,
    /// Headers and URI live as long as the future, or the connection.
    pub keep_parts: bool,
    /// A task waits for the upgrade. Otherwise it is kept, or dropped, with the request's parts.
    pub take_upgrade: bool,
    /// Each waker that is seen is kept for ever.
    pub keep_wakers: bool,
    pub answer: Answer,
}

#[derive(Clone, Debug)]
pub enum Answer {
    Error,
    Response { status: u16, version: Version, headers: Vec<(&'static str, String)>, size: Size, body: Vec<BodyStep> },
}

/// What a body tells of its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Unknown,
    Exact,
    /// In a `content-length` header, from a body that does not know it, off by this much.
    Header(i64),
}

#[derive(Clone, Debug)]
pub enum BodyStep {
    Data(usize),
    Wait(Wait),
    Trailers,
    Error,
}

/// A place to wait at: of this request, the n-th.
pub type GateId = (usize, usize);

#[derive(Debug, Default)]
struct Gate {
    open: bool,
    waiting: Option<Waker>,
}

/// All that the services of one connection share with the driver.
#[derive(Default)]
pub struct Shared {
    pub log: Log,
    pub plans: Vec<Plan>,
    gates: Mutex<BTreeMap<GateId, Gate>>,
    pub tasks: Mutex<Vec<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    calls: AtomicUsize,
    kept: Mutex<Vec<Incoming>>,
    kept_parts: Mutex<Vec<http::request::Parts>>,
    wakers: Mutex<Vec<Waker>>,
    /// Requests whose future is pending.
    pub waiting: AtomicUsize,
    /// Response bodies that hyper holds.
    responding: AtomicUsize,
    /// A request with an upgrade was answered with something else.
    pub upgrade_refused: AtomicBool,
    /// The last request has nothing that keeps a connection active while it waits, or afterwards.
    last_is_plain: AtomicBool,
}

#[derive(Debug)]
pub struct ServiceError;

/// The service.
#[derive(Clone)]
pub struct Planned(pub Arc<Shared>);

/// A response's body.
pub struct PlannedBody {
    shared: Arc<Shared>,
    request: usize,
    gate: usize,
    keep_wakers: bool,
    steps: VecDeque<BodyStep>,
    exact: Option<u64>,
    yielded: bool,
}

/// Notes that a future was dropped before it was done.
struct Unanswered {
    shared: Arc<Shared>,
    request: usize,
    answered: bool,
}

// ===== impl Plan =====

impl Plan {
    /// Reads the body and answers at once with an empty response.
    pub fn new() -> Self {
        Self {
            read: ReadBody::All,
            wait_before: Wait::No,
            wait_after: Wait::No,
            keep_parts: false,
            take_upgrade: false,
            keep_wakers: false,
            answer: Answer::Response {
                status: 200,
                version: Version::HTTP_11,
                headers: Vec::new(),
                size: Size::Unknown,
                body: Vec::new(),
            },
        }
    }

    /// The same when a gate has been opened.
    pub fn gated() -> Self {
        Self { wait_after: Wait::Gate, ..Self::new() }
    }

    /// Whether the whole body is read before the response, which may fail, is written.
    pub fn reads_to_the_end(&self) -> bool {
        matches!(self.read, ReadBody::All | ReadBody::AllAndKeep)
    }
}

// ===== impl Shared =====

impl Shared {
    pub fn new(plans: Vec<Plan>) -> Arc<Self> {
        Arc::new(Self { plans, ..Self::default() })
    }

    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Whether a connection that has nothing to write or parse must be dormant: it waits for a plain request's answer, or
    /// for the next request.
    pub fn may_rest(&self) -> bool {
        let plain = self.calls() == 0 || self.last_is_plain.load(Ordering::Relaxed);
        plain && self.responding.load(Ordering::Relaxed) == 0
    }

    /// The gates that somebody waits at.
    pub fn waiting_gates(&self) -> Vec<GateId> {
        let gates = self.gates.lock().unwrap();
        gates.iter().filter(|(_, gate)| !gate.open && gate.waiting.is_some()).map(|(id, _)| *id).collect()
    }

    pub fn open(&self, id: GateId) {
        let waker = {
            let mut gates = self.gates.lock().unwrap();
            let gate = gates.entry(id).or_default();
            gate.open = true;
            gate.waiting.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll_gate(&self, id: GateId, cx: &mut Context<'_>) -> Poll<()> {
        let mut gates = self.gates.lock().unwrap();
        let gate = gates.entry(id).or_default();
        if gate.open {
            return Poll::Ready(());
        }
        gate.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    fn see(&self, cx: &Context<'_>, keep: bool) {
        if keep {
            self.wakers.lock().unwrap().push(cx.waker().clone());
        }
    }

    async fn wait(&self, wait: Wait, id: GateId, keep_wakers: bool) {
        let mut yielded = false;
        poll_fn(|cx| {
            self.see(cx, keep_wakers);
            match wait {
                Wait::No => Poll::Ready(()),
                Wait::Yield => poll_yield(&mut yielded, cx),
                Wait::Gate => self.poll_gate(id, cx),
            }
        })
        .await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().unwrap().push(Box::pin(task));
    }
}

fn poll_yield(yielded: &mut bool, cx: &mut Context<'_>) -> Poll<()> {
    if std::mem::replace(yielded, true) {
        return Poll::Ready(());
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

// ===== impl Planned =====

impl Service<Request<Incoming>> for Planned {
    type Response = Response<PlannedBody>;
    type Error = ServiceError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let shared = self.0.clone();
        let k = shared.calls.fetch_add(1, Ordering::Relaxed);
        let plan = shared.plans[k % shared.plans.len()].clone();
        shared.log.note(Actor::Request(k), describe_request(&request));
        let wants_upgrade = request.extensions().get::<OnUpgrade>().is_some();
        let accepts = match &plan.answer {
            Answer::Response { status, .. } => {
                *status == 101 || request.method() == Method::CONNECT && (200..300).contains(status)
            }
            Answer::Error => false,
        };
        shared.last_is_plain.store(is_plain(&request), Ordering::Relaxed);
        if wants_upgrade && !accepts {
            shared.upgrade_refused.store(true, Ordering::Relaxed);
        }
        if wants_upgrade && plan.take_upgrade {
            let upgrade = hyper::upgrade::on(&mut request);
            shared.spawn(upgraded(shared.clone(), k, accepts, upgrade));
        }
        let (parts, body) = request.into_parts();
        let body = (plan.read != ReadBody::DropInCall).then_some(body);
        let unanswered = Unanswered { shared: shared.clone(), request: k, answered: false };
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        Box::pin(serve(shared, k, plan, parts, body, unanswered))
    }
}

async fn serve(
    shared: Arc<Shared>,
    k: usize,
    plan: Plan,
    parts: http::request::Parts,
    body: Option<Incoming>,
    mut unanswered: Unanswered,
) -> Result<Response<PlannedBody>, ServiceError> {
    let parts = plan.keep_parts.then_some(parts);
    shared.wait(plan.wait_before, (k, 0), plan.keep_wakers).await;
    let kept = match body {
        Some(body) => treat_body(&shared, k, &plan, body).await,
        None => None,
    };
    shared.wait(plan.wait_after, (k, 1), plan.keep_wakers).await;
    if let Some(parts) = parts {
        shared.kept_parts.lock().unwrap().push(parts);
    }
    drop(kept);
    unanswered.answered = true;
    drop(unanswered);
    shared.log.note(Actor::Request(k), "answers");
    answer(&shared, k, &plan)
}

/// Returns what is kept of the body until the answer.
async fn treat_body(shared: &Arc<Shared>, k: usize, plan: &Plan, mut body: Incoming) -> Option<Incoming> {
    let actor = Actor::Request(k);
    let keep_wakers = plan.keep_wakers;
    match plan.read {
        ReadBody::DropInCall | ReadBody::Drop => None,
        ReadBody::Keep => Some(body),
        ReadBody::PollOnce => {
            poll_fn(|cx| {
                shared.see(cx, keep_wakers);
                if let Poll::Ready(frame) = Pin::new(&mut body).poll_frame(cx) {
                    note_frame(&shared.log, actor, frame);
                }
                Poll::Ready(())
            })
            .await;
            Some(body)
        }
        ReadBody::Some(bytes) => {
            read(shared, actor, &mut body, bytes, keep_wakers).await;
            None
        }
        ReadBody::SomeThenYield(bytes) => {
            read(shared, actor, &mut body, bytes, keep_wakers).await;
            shared.wait(Wait::Yield, (k, 0), keep_wakers).await;
            None
        }
        ReadBody::SomeAndKeep(bytes) => {
            read(shared, actor, &mut body, bytes, keep_wakers).await;
            Some(body)
        }
        ReadBody::All => {
            read(shared, actor, &mut body, usize::MAX, keep_wakers).await;
            None
        }
        ReadBody::AllAndKeep => {
            read(shared, actor, &mut body, usize::MAX, keep_wakers).await;
            shared.kept.lock().unwrap().push(body);
            None
        }
        ReadBody::Task => {
            let owned = shared.clone();
            shared.spawn(async move {
                let mut body = body;
                read(&owned, Actor::Task(k), &mut body, usize::MAX, false).await;
            });
            None
        }
        ReadBody::DropByTask => {
            let owned = shared.clone();
            shared.spawn(async move {
                owned.wait(Wait::Gate, (k, 1000), false).await;
                drop(body);
            });
            None
        }
    }
}

async fn read(shared: &Shared, actor: Actor, body: &mut Incoming, bytes: usize, keep_wakers: bool) {
    let mut seen = 0;
    while seen < bytes {
        let frame = poll_fn(|cx| {
            shared.see(cx, keep_wakers);
            Pin::new(&mut *body).poll_frame(cx)
        })
        .await;
        seen += match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) | None => usize::MAX - seen,
        };
        note_frame(&shared.log, actor, frame);
    }
}

fn note_frame(log: &Log, actor: Actor, frame: Option<Result<Frame<Bytes>, hyper::Error>>) {
    match frame {
        None => log.note(actor, "body ended"),
        Some(Err(error)) => log.note(actor, format!("body failed: {}", describe(&error))),
        Some(Ok(frame)) => match frame.into_data() {
            Ok(data) => log.data(actor, &data),
            Err(frame) => log.note(actor, format!("body trailers: {:?}", frame.into_trailers())),
        },
    }
}

fn is_plain(request: &Request<Incoming>) -> bool {
    request.body().is_end_stream()
        && request.version() == Version::HTTP_11
        && request.method() != Method::CONNECT
        && request.extensions().get::<OnUpgrade>().is_none()
        && !request.headers().contains_key("transfer-encoding")
}

fn describe_request(request: &Request<Incoming>) -> String {
    format!(
        "{} {} {:?} {:?} upgrade: {}, body: {:?}, ends: {}",
        request.method(),
        request.uri(),
        request.version(),
        request.headers(),
        request.extensions().get::<OnUpgrade>().is_some(),
        request.body().size_hint(),
        request.body().is_end_stream(),
    )
}

fn answer(shared: &Arc<Shared>, k: usize, plan: &Plan) -> Result<Response<PlannedBody>, ServiceError> {
    let Answer::Response { status, version, headers, size, body } = &plan.answer else { return Err(ServiceError) };
    let len: usize = body.iter().map(|step| if let BodyStep::Data(len) = step { *len } else { 0 }).sum();
    let exact = (*size == Size::Exact).then_some(len as u64);
    shared.responding.fetch_add(1, Ordering::Relaxed);
    let body = PlannedBody {
        shared: shared.clone(),
        request: k,
        gate: 2,
        keep_wakers: plan.keep_wakers,
        steps: body.iter().cloned().collect(),
        exact,
        yielded: false,
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(*status).unwrap();
    *response.version_mut() = *version;
    for (name, value) in headers {
        response.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    if let Size::Header(off) = size {
        let claimed = (len as i64 + off).max(0);
        response.headers_mut().insert("content-length", HeaderValue::from(claimed));
    }
    Ok(response)
}

// ===== the task of an upgrade =====

async fn upgraded(shared: Arc<Shared>, k: usize, accepted: bool, upgrade: OnUpgrade) {
    let actor = Actor::Upgrade(k);
    match upgrade.await {
        Ok(upgraded) if accepted => {
            shared.log.note(actor, "upgraded");
            if let Err(error) = echo(&shared.log, actor, upgraded).await {
                shared.log.note(actor, format!("echo failed: {error}"));
            }
        }
        Ok(_) => shared.log.note(actor, REFUSED[0]),
        Err(error) => {
            let prefix = if accepted { "failed to upgrade" } else { REFUSED[1] };
            shared.log.note(actor, format!("{prefix}: {}", describe(&error)));
        }
    }
}

/// Writes back what comes, in angle brackets at both ends.
async fn echo(log: &Log, actor: Actor, mut upgraded: Upgraded) -> io::Result<()> {
    write_all(&mut upgraded, b"<").await?;
    loop {
        // One byte at a time, so that it does not matter how much can be read at once.
        let mut room = [0];
        let mut buf = ReadBuf::new(&mut room);
        poll_fn(|cx| Pin::new(&mut upgraded).poll_read(cx, buf.unfilled())).await?;
        if buf.filled().is_empty() {
            break;
        }
        log.data(actor, buf.filled());
        let bytes = buf.filled().to_vec();
        write_all(&mut upgraded, &bytes).await?;
    }
    write_all(&mut upgraded, b">").await?;
    poll_fn(|cx| Pin::new(&mut upgraded).poll_shutdown(cx)).await
}

async fn write_all(upgraded: &mut Upgraded, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let len = poll_fn(|cx| Pin::new(&mut *upgraded).poll_write(cx, bytes)).await?;
        bytes = &bytes[len..];
    }
    poll_fn(|cx| Pin::new(&mut *upgraded).poll_flush(cx)).await
}

// ===== impl PlannedBody =====

impl Body for PlannedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        this.shared.see(cx, this.keep_wakers);
        loop {
            let Some(step) = this.steps.front() else {
                this.shared.log.note(Actor::Response(this.request), "gave its end");
                return Poll::Ready(None);
            };
            let ready = match step {
                BodyStep::Wait(Wait::No) => Poll::Ready(()),
                BodyStep::Wait(Wait::Yield) => poll_yield(&mut this.yielded, cx),
                BodyStep::Wait(Wait::Gate) => this.shared.poll_gate((this.request, this.gate), cx),
                BodyStep::Data(_) | BodyStep::Trailers | BodyStep::Error => break,
            };
            if ready.is_pending() {
                return Poll::Pending;
            }
            this.yielded = false;
            this.gate += 1;
            this.steps.pop_front();
        }
        let frame = match this.steps.pop_front() {
            Some(BodyStep::Data(len)) => Ok(Frame::data(pattern(len))),
            Some(BodyStep::Error) => Err(io::Error::other("body failed by plan")),
            _ => Ok(Frame::trailers(trailers())),
        };
        if let Some(exact) = &mut this.exact {
            *exact -= frame.as_ref().map_or(0, |frame| frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.exact.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for PlannedBody {
    fn drop(&mut self) {
        self.shared.responding.fetch_sub(1, Ordering::Relaxed);
        self.shared.log.note(Actor::Response(self.request), format!("dropped with {} steps left", self.steps.len()));
    }
}

fn pattern(len: usize) -> Bytes {
    const LEN_MAX: usize = 1 << 20;
    static PATTERN: [u8; LEN_MAX] = {
        let mut bytes = [0; LEN_MAX];
        let mut i = 0;
        while i < 4096 {
            bytes[i] = b'a' + (i % 26) as u8;
            i += 1;
        }
        bytes
    };
    Bytes::from_static(&PATTERN[..len])
}

fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("abc"));
    trailers.insert("x-other", HeaderValue::from_static("def"));
    trailers
}

// ===== impl Unanswered =====

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        if !self.answered {
            self.shared.log.note(Actor::Request(self.request), UNANSWERED);
        }
    }
}

/// How the notes begin of what became of an upgrade that was not accepted.
pub const REFUSED: [&str; 2] = ["upgraded though refused", "not upgraded"];

pub const UNANSWERED: &str = "dropped unanswered";

// ===== impl ServiceError =====

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failed by plan")
    }
}

impl std::error::Error for ServiceError {}

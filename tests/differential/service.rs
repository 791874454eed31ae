//! A service that follows a plan.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBuf, Write};
use hyper::service::Service;
use hyper::upgrade::{OnUpgrade, Upgraded};

use super::body::PlannedBody;
use super::log::{Actor, Log, describe};
use super::plan::{Answer, BodyStep, Plan, ReadBody, Size, Wait};
use super::shared::Shared;

#[derive(Debug)]
pub struct ServiceError;

/// The service.
#[derive(Clone)]
pub struct Planned(pub Arc<Shared>);

/// Notes that a future was dropped before it was done.
struct Unanswered {
    shared: Arc<Shared>,
    request: usize,
    answered: bool,
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
    let body = PlannedBody::new(shared.clone(), k, plan.keep_wakers, body, exact);
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

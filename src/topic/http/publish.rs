//! `POST`: a client publishes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::super::{Published, Topic};
use super::builder::Shared;
use super::{NO_STORE, Refusal, ResponseFuture, method_not_allowed};
use crate::BoxError;

/// How long a message may take to arrive after its head: one that is small enough takes a fraction of a second.
const BODY_WAIT: Duration = Duration::from_secs(10);

/// Reads the body and publishes what it holds, if that is allowed at all.
pub(super) fn publish<T, B>(shared: &Arc<Shared<T>>, parts: Parts, body: B) -> Result<ResponseFuture<T>, Refusal>
where
    T: Send + Sync + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let Some(allowed) = &shared.publish else { return Err(method_not_allowed(shared)) };
    (shared.authorize)(&parts)?;
    let topic = shared.topic_of(&parts)?;
    let body_bytes_max = allowed.body_bytes_max;
    // A body that announces too much is refused before any of it is read.
    if body.size_hint().lower() > body_bytes_max as u64 {
        return Err(too_large(body_bytes_max));
    }
    let shared = shared.clone();
    Ok(ResponseFuture::boxed(Box::pin(async move {
        match collect(body, body_bytes_max).await.and_then(|body| accept(&shared, &topic, &parts, body)) {
            Ok(published) => receipt(published),
            Err(refusal) => refusal.into_response(),
        }
    })))
}

async fn collect<B>(body: B, body_bytes_max: usize) -> Result<Bytes, Refusal>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let collected = tokio::time::timeout(BODY_WAIT, Limited::new(body, body_bytes_max).collect());
    let Ok(collected) = collected.await else {
        return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the message took too long to arrive"));
    };
    match collected {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large(body_bytes_max)),
        Err(error) => Err(Refusal::new(StatusCode::BAD_REQUEST, error)),
    }
}

fn accept<T: Send + Sync + 'static>(
    shared: &Shared<T>,
    topic: &Topic<T>,
    parts: &Parts,
    body: Bytes,
) -> Result<Published, Refusal> {
    let allowed = shared.publish.as_ref().ok_or_else(|| method_not_allowed(shared))?;
    let value = (allowed.decode)(parts, body)?;
    topic.publish(value).map_err(|error| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error))
}

fn receipt(published: Published) -> Response<Bytes> {
    let Published { cursor, waiting } = published;
    let mut response = Response::new(format!("{{\"cursor\":\"{cursor}\",\"waiting\":{waiting}}}\n").into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response
}

fn too_large(body_bytes_max: usize) -> Refusal {
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format_args!("a message has {body_bytes_max} bytes at most"))
}

//! The chat's HTTP: its page, and its topic.

use std::convert::Infallible;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::service::Service;
use hyper::{Method, Request, Response, StatusCode};
use hyper_deferred::topic::http::TopicBody;

use crate::room::{Message, Room};

/// Nothing but this page's own files runs or is loaded, whatever a message says.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:";

type Answer = Response<TopicBody<Message>>;

/// The chat's service.
pub(crate) async fn answer(room: Room, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    Ok(match request.uri().path() {
        "/topic" => room.service.call(request).await?,
        "/" if reads => page("text/html; charset=utf-8", include_str!("index.html")),
        "/style.css" if reads => page("text/css", include_str!("style.css")),
        "/script.js" if reads => page("text/javascript", include_str!("script.js")),
        "/now" if reads => response(StatusCode::OK, "application/json", room.now().to_string()),
        "/" | "/style.css" | "/script.js" | "/now" => not_allowed(),
        path => text(StatusCode::NOT_FOUND, format!("there is nothing at {path}")),
    })
}

fn page(content_type: &'static str, content: &'static str) -> Answer {
    let mut response = response(StatusCode::OK, content_type, content);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

fn not_allowed() -> Answer {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "allowed here: GET, HEAD".to_owned());
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

fn text(status: StatusCode, text: String) -> Answer {
    response(status, "text/plain; charset=utf-8", text)
}

fn response(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(TopicBody::from(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

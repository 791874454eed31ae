//! The chat's HTTP: a plain hyper service.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Request, Response, StatusCode};
use hyper_deferred::deferred;
use serde_json::{Value, json};

use crate::room::{Cursor, Seat, SharedRoom};

const TEXT_CHARS_MAX: usize = 2_000;
const NAME_CHARS_MAX: usize = 40;

/// Room for the longest name and text, with each character written as JSON's longest escape, two times `\uXXXX`.
const BODY_BYTES_MAX: usize = (TEXT_CHARS_MAX + NAME_CHARS_MAX) * 12 + 1_024;

/// How long a message may take to arrive after its head.
const BODY_WAIT: Duration = Duration::from_secs(10);

/// Nothing but this page's own files runs or is loaded, whatever a message says.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:";

type Answer = Response<Full<Bytes>>;

/// Why a request is not served, for the status and for the reader.
struct Refusal(StatusCode, String);

/// The chat's service.
pub(crate) async fn answer(room: SharedRoom, wait: Duration, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let answered = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/") => Ok(page("text/html; charset=utf-8", include_str!("index.html"))),
        (&Method::GET | &Method::HEAD, "/style.css") => Ok(page("text/css", include_str!("style.css"))),
        (&Method::GET | &Method::HEAD, "/script.js") => Ok(page("text/javascript", include_str!("script.js"))),
        (&Method::GET, "/poll") => poll(&room, wait, request.uri().query().unwrap_or_default()).await,
        (&Method::GET, "/parked") => Ok(json_response(json!({ "parked": room.borrow().parked() }).to_string().into())),
        (&Method::POST, "/say") => say(&room, request.into_body()).await,
        (_, "/" | "/style.css" | "/script.js") => Ok(not_allowed("GET, HEAD")),
        (_, "/poll" | "/parked") => Ok(not_allowed("GET")),
        (_, "/say") => Ok(not_allowed("POST")),
        (_, path) => Err(Refusal(StatusCode::NOT_FOUND, format!("there is nothing at {path}"))),
    };
    Ok(answered.unwrap_or_else(|Refusal(status, why)| text_response(status, why)))
}

/// Answers with what is newer than the client has seen, when there is something, or with 204 when the time is up.
async fn poll(room: &SharedRoom, wait: Duration, query: &str) -> Result<Answer, Refusal> {
    let (cursor, name) = parse_poll(query)?;
    let seat = Seat::take(room, name);
    if let Some(news) = room.borrow().news(&cursor) {
        return Ok(json_response(news));
    }
    // Nothing can happen between looking for news and waiting for it: there is no `await` between the two.
    let (responder, deferred) = deferred();
    seat.wait(responder);
    let Ok(response) = deferred.timeout(wait, no_content).await;
    Ok(response)
}

fn parse_poll(query: &str) -> Result<(Cursor, Option<String>), Refusal> {
    let mut cursor = Cursor { since: 0, epoch: None };
    let mut name = None;
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "since" => {
                let why = |_| Refusal(StatusCode::BAD_REQUEST, "since is not a number".to_owned());
                cursor.since = value.parse().map_err(why)?;
            }
            // One that is no number is of no run of this server, as the empty one of a page that was just opened.
            "epoch" => cursor.epoch = Some(value.parse().unwrap_or(0)),
            "name" => name = Some(checked("name", &value, NAME_CHARS_MAX)?),
            _ => {}
        }
    }
    Ok((cursor, name))
}

async fn say(room: &SharedRoom, body: Incoming) -> Result<Answer, Refusal> {
    let collected = tokio::time::timeout(BODY_WAIT, Limited::new(body, BODY_BYTES_MAX).collect()).await;
    let body = match collected {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let why = format!("the body is longer than {BODY_BYTES_MAX} bytes");
            return Err(Refusal(StatusCode::PAYLOAD_TOO_LARGE, why));
        }
        Ok(Err(error)) => return Err(Refusal(StatusCode::BAD_REQUEST, format!("the body did not arrive: {error}"))),
        Err(_elapsed) => return Err(Refusal(StatusCode::REQUEST_TIMEOUT, "the body took too long".to_owned())),
    };
    let said: Value = serde_json::from_slice(&body)
        .map_err(|error| Refusal(StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}")))?;
    let name = checked("name", string_field(&said, "name")?, NAME_CHARS_MAX)?;
    let text = checked("text", string_field(&said, "text")?, TEXT_CHARS_MAX)?;
    let number = room.borrow_mut().say(name, text);
    Ok(json_response(json!({ "id": number }).to_string().into()))
}

fn string_field<'a>(said: &'a Value, field: &str) -> Result<&'a str, Refusal> {
    let why = || Refusal(StatusCode::UNPROCESSABLE_ENTITY, format!("the {field} is missing or not a string"));
    said.get(field).and_then(Value::as_str).ok_or_else(why)
}

/// `value` without the space around it, if it is neither empty nor too long.
fn checked(field: &str, value: &str, chars_max: usize) -> Result<String, Refusal> {
    let value = value.trim();
    let why = match value.chars().count() {
        0 => format!("the {field} is empty"),
        chars if chars > chars_max => format!("the {field} has {chars} characters, at most {chars_max} are allowed"),
        _ => return Ok(value.to_owned()),
    };
    Err(Refusal(StatusCode::UNPROCESSABLE_ENTITY, why))
}

fn page(content_type: &'static str, content: &'static str) -> Answer {
    let mut response = response(StatusCode::OK, content_type, Bytes::from_static(content.as_bytes()));
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

pub(crate) fn json_response(json: Bytes) -> Answer {
    response(StatusCode::OK, "application/json", json)
}

fn text_response(status: StatusCode, text: String) -> Answer {
    response(status, "text/plain; charset=utf-8", text.into())
}

fn not_allowed(allow: &'static str) -> Answer {
    let mut response = text_response(StatusCode::METHOD_NOT_ALLOWED, format!("allowed here: {allow}"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

fn no_content() -> Answer {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

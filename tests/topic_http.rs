//! What a topic's service answers, to each kind of request, at which time.
#![cfg(feature = "topic")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Body, Frame};
use hyper::service::Service;
use hyper_deferred::Topic;
use hyper_deferred::topic::http::{Builder, Refusal, ResponseFuture, TopicBody, TopicService};
use hyper_deferred::topic::{self, Encode, Presence, PresenceChange, Raw};
use hyper_deferred::{BoxError, Topics};
use tokio::time::Instant;

fn get(uri: &str) -> http::request::Builder {
    Request::get(uri)
}

fn call(service: &TopicService<Bytes>, request: http::request::Builder) -> ResponseFuture<Bytes> {
    service.call(request.body(Empty::<Bytes>::new()).unwrap())
}

async fn answer(service: &TopicService<Bytes>, request: http::request::Builder) -> Answer {
    Answer::read(call(service, request).await.unwrap()).await
}

async fn post(service: &TopicService<Bytes>, body: &'static str) -> Answer {
    let request = Request::post("/").body(Full::<Bytes>::from(body)).unwrap();
    Answer::read(service.call(request).await.unwrap()).await
}

fn is_parked(response: &mut Pin<&mut ResponseFuture<Bytes>>) -> bool {
    response.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    async fn read(response: Response<TopicBody<Bytes>>) -> Self {
        let (head, body) = response.into_parts();
        Self { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn tag(&self) -> &str {
        self.header("etag").unwrap()
    }
}

/// Several messages of text, one a line.
struct Lines;

impl Encode<Bytes> for Lines {
    fn content_type(&self) -> http::HeaderValue {
        http::HeaderValue::from_static("text/plain; charset=utf-8")
    }
    fn encode(&self, value: &Bytes) -> Result<Bytes, BoxError> {
        Ok(value.clone())
    }
    fn join(&self, messages: &[Bytes]) -> Bytes {
        messages.iter().flat_map(|message| [message, &b"\n"[..]].concat()).collect()
    }
    fn event<'a>(&self, value: &'a Bytes) -> Option<&'a str> {
        std::str::from_utf8(value).ok()?.strip_prefix("named ")
    }
}

fn lines() -> Topic<Bytes> {
    topic::Builder::new(Lines).history_count_max(3).build()
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_waits_for_news_and_goes_on_by_its_entity_tag() {
    let topic = lines();
    let service = TopicService::new(topic.clone());
    let mut first = pin!(call(&service, get("/")));
    assert!(is_parked(&mut first));
    topic.publish("one".into()).unwrap();
    let first = Answer::read(first.await.unwrap()).await;
    assert_eq!((first.status, &first.body[..]), (StatusCode::OK, &b"one\n"[..]));
    assert_eq!(first.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(first.header("cache-control"), Some("no-store"));
    assert_eq!(first.header("topic-missed"), None);
    assert_eq!(first.tag(), format!("\"{}\"", topic.latest()));

    // Two messages come between two polls.
    topic.publish("two".into()).unwrap();
    topic.publish("three".into()).unwrap();
    let second = answer(&service, get("/").header("if-none-match", first.tag())).await;
    assert_eq!((second.status, &second.body[..]), (StatusCode::OK, &b"two\nthree\n"[..]));
    let weak = format!("W/{}", first.tag());
    assert_eq!(answer(&service, get("/").header("if-none-match", weak)).await.body, second.body);
    let since = format!("/?x=1&since={}", first.tag().trim_matches('"'));
    assert_eq!(answer(&service, get(&since)).await.body, second.body);
    // The header is newer than the URL that it is sent to.
    let mut last = pin!(call(&service, get(&since).header("if-none-match", second.tag())));
    assert!(is_parked(&mut last));
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_without_news_gets_204_and_its_cursor_when_time_is_up() {
    let topic = lines();
    topic.publish("old".into()).unwrap();
    let service = Builder::new(topic.clone()).wait(Duration::from_secs(10)).build();
    let begin = Instant::now();
    let first = answer(&service, get("/")).await;
    assert_eq!((first.status, first.body.len()), (StatusCode::NO_CONTENT, 0));
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_secs(10) && waited < Duration::from_millis(10_300), "{waited:?}");
    assert_eq!(first.tag(), format!("\"{}\"", topic.latest()));
    assert_eq!(first.header("cache-control"), Some("no-store"));
    topic.publish("new".into()).unwrap();
    assert_eq!(answer(&service, get("/").header("if-none-match", first.tag())).await.body, "new\n");
    assert_eq!(topic.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_says_how_long_it_waits_within_bounds() {
    let service = Builder::new(lines()).wait(Duration::from_secs(10)).wait_max(Duration::from_secs(30)).build();
    for (prefer, seconds, applied) in [
        ("wait=3", 3, Some("wait=3")),
        ("respond-async, wait=20", 20, Some("wait=20")),
        ("wait=31", 30, Some("wait=30")),
        ("wait=99999999999999999999", 30, Some("wait=30")),
        ("wait=0", 0, Some("wait=0")),
        ("wait=soon", 10, None),
        ("handling=lenient", 10, None),
    ] {
        let begin = Instant::now();
        let answer = answer(&service, get("/").header("prefer", prefer)).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        let waited = begin.elapsed();
        assert!(waited >= Duration::from_secs(seconds), "{prefer}: {waited:?}");
        assert!(waited <= Duration::from_secs(seconds) + Duration::from_millis(300), "{prefer}: {waited:?}");
        assert_eq!(answer.header("preference-applied"), applied, "{prefer}");
    }
}

#[tokio::test(start_paused = true)]
async fn many_deadlines_are_met_each_at_its_time() {
    // Not all in one slice, not all in one round of the wheel.
    let topic = lines();
    let service = Builder::new(topic.clone()).wait_max(Duration::from_secs(500)).build();
    let begin = Instant::now();
    let (done, mut count) = tokio::sync::mpsc::unbounded_channel();
    for n in 0..2000_u64 {
        let wait = n % 200;
        let request = call(&service, get("/").header("prefer", format!("wait={wait}")));
        let done = done.clone();
        tokio::spawn(async move {
            request.await.unwrap();
            let late = begin.elapsed().checked_sub(Duration::from_secs(wait)).expect("never early");
            done.send(late).unwrap();
        });
    }
    drop(done);
    let mut met = 0;
    while let Some(late) = count.recv().await {
        assert!(late <= Duration::from_millis(300), "{late:?} late");
        met += 1;
    }
    assert_eq!(met, 2000);
    assert_eq!(topic.waiting(), 0);
}

#[test]
fn deadlines_are_met_though_the_runtime_that_looked_after_them_ends() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (first, second) = (runtime(), runtime());
    let service = TopicService::new(lines());
    let mut here = Box::pin(call(&service, get("/").header("prefer", "wait=5")));
    let mut there = Box::pin(call(&service, get("/").header("prefer", "wait=5")));
    first.block_on(async { assert!(is_parked(&mut there.as_mut())) });
    let answered = second.block_on(async {
        let answered = tokio::spawn(async move { here.as_mut().await.unwrap().status() });
        tokio::task::yield_now().await;
        // Not dropped in here, where blocking is not allowed: that is what a runtime's end does.
        std::thread::spawn(move || drop((there, first))).join().unwrap();
        answered.await.unwrap()
    });
    assert_eq!(answered, StatusCode::NO_CONTENT);
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_told() {
    let topic = lines();
    let service = TopicService::new(topic.clone());
    let start = format!("\"{}\"", topic.latest());
    for n in 0..5 {
        topic.publish(n.to_string().into()).unwrap();
    }
    let answer_to = async |tag: &str| answer(&service, get("/").header("if-none-match", tag)).await;
    let gap = answer_to(&start).await;
    assert_eq!((gap.header("topic-missed"), &gap.body[..]), (Some("2"), &b"2\n3\n4\n"[..]));
    let other = format!("\"{}\"", Topic::raw().latest());
    let unknown = answer_to(&other).await;
    assert_eq!((unknown.header("topic-missed"), &unknown.body[..]), (Some("unknown"), &b"2\n3\n4\n"[..]));
    // Nothing is kept, and still the client must not wait with a cursor of another life.
    let empty = TopicService::new(lines());
    let unknown = answer(&empty, get("/").header("if-none-match", other)).await;
    assert_eq!((unknown.status, unknown.header("topic-missed")), (StatusCode::NO_CONTENT, Some("unknown")));
}

#[tokio::test(start_paused = true)]
async fn all_that_is_kept_or_only_what_comes() {
    let topic = lines();
    let service = TopicService::new(topic.clone());
    topic.publish("one".into()).unwrap();
    assert_eq!(answer(&service, get("/?since=oldest")).await.body, "one\n");
    for uri in ["/", "/?since=latest", "/?sinc=oldest"] {
        let mut parked = pin!(call(&service, get(uri)));
        assert!(is_parked(&mut parked), "{uri}");
    }
    let mut parked = pin!(call(&service, get("/").header("if-none-match", "*")));
    assert!(is_parked(&mut parked));
}

#[tokio::test(start_paused = true)]
async fn garbage_is_a_bad_request() {
    let service = TopicService::new(lines());
    let good = lines().latest();
    for request in [
        get("/?since="),
        get("/?since=abc"),
        get(&format!("/?since=%22{good}%22")),
        get("/").header("if-none-match", "\"abc\""),
        get("/").header("if-none-match", format!("\"{good}\", \"{good}\"")),
        get("/").header("if-none-match", &b"\"\xff\""[..]),
        get("/").header("last-event-id", "17"),
        get("/").header("last-event-id", "\u{e4}"),
    ] {
        let answer = answer(&service, request).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.body.starts_with(b"not a cursor"), "{:?}", answer.body);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
}

#[tokio::test(start_paused = true)]
async fn head_tells_the_cursor_at_once() {
    let topic = lines();
    let service = TopicService::new(topic.clone());
    let begin = Instant::now();
    let request = || Request::builder().method("HEAD").uri("/").header("accept", "text/event-stream, */*");
    let head = answer(&service, request()).await;
    assert_eq!((head.status, begin.elapsed()), (StatusCode::NO_CONTENT, Duration::ZERO));
    assert_eq!(head.tag(), format!("\"{}\"", topic.latest()));
}

#[tokio::test]
async fn other_methods_are_not_allowed() {
    let service = TopicService::new(lines());
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let answer = answer(&service, Request::builder().method(method).uri("/")).await;
        assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, Some("GET, HEAD")));
    }
    let service = Builder::new(lines()).publish(10, |_, body| Ok(body)).build();
    let answer = answer(&service, Request::put("/")).await;
    assert_eq!(answer.header("allow"), Some("GET, HEAD, POST"));
}

#[tokio::test]
async fn nothing_but_the_two_forms_is_acceptable() {
    let answer = answer(&TopicService::new(lines()), get("/").header("accept", "image/png")).await;
    assert_eq!(answer.status, StatusCode::NOT_ACCEPTABLE);
    assert_eq!(answer.body, "there is text/plain and text/event-stream here\n");
}

#[tokio::test(start_paused = true)]
async fn a_post_publishes_what_fits() {
    let topic = topic::Builder::<Bytes>::new(Raw).history_bytes_max(8).build();
    let service = Builder::new(topic.clone())
        .publish(10, |parts, body| match parts.uri.path() {
            "/" if body == "bad" => Err(Refusal::new(StatusCode::BAD_REQUEST, "no bad words")),
            _ => Ok(body),
        })
        .build();
    let mut waiting = pin!(topic.poll(topic.latest()));
    assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let done = post(&service, "hello").await;
    assert_eq!((done.status, done.header("content-type")), (StatusCode::OK, Some("application/json")));
    assert_eq!(done.body, format!("{{\"cursor\":\"{}\",\"waiting\":1}}\n", topic.latest()));
    assert_eq!(&waiting.await.messages()[0][..], b"hello");

    for (body, status, why) in [
        ("bad", StatusCode::BAD_REQUEST, "no bad words"),
        ("more than ten", StatusCode::PAYLOAD_TOO_LARGE, "10 bytes at most"),
        ("ten bytes.", StatusCode::UNPROCESSABLE_ENTITY, "10 bytes and the history holds 8"),
    ] {
        let refused = post(&service, body).await;
        assert_eq!(refused.status, status);
        assert!(String::from_utf8_lossy(&refused.body).contains(why), "{:?}", refused.body);
    }
    // A body that never comes.
    let request = Request::post("/").body(Stalled).unwrap();
    let begin = Instant::now();
    assert_eq!(service.call(request).await.unwrap().status(), StatusCode::REQUEST_TIMEOUT);
    assert_eq!(begin.elapsed().as_secs(), 10);
    // A body that does not say how long it is.
    let pieces = in_pieces(["12345", "67890", "1"]);
    let request = Request::post("/").body(pieces).unwrap();
    assert_eq!(service.call(request).await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
}

/// A body that never comes.
struct Stalled;

impl Body for Stalled {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

/// A body in pieces.
fn in_pieces(pieces: [&'static str; 3]) -> impl Body<Data = Bytes, Error = Infallible> + Send + 'static {
    let mut pieces = pieces.into_iter();
    StreamBody::new(Pieces(move || pieces.next()))
}

struct Pieces<F>(F);

impl<F: FnMut() -> Option<&'static str> + Unpin> futures_core::Stream for Pieces<F> {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready((self.0)().map(|piece| Ok(Frame::data(piece.into()))))
    }
}

#[cfg(feature = "json")]
#[tokio::test]
async fn json_comes_in_and_goes_out() {
    let topic = Topic::<Vec<u32>>::json();
    let service = Builder::new(topic.clone()).publish_json(100).build();
    let start = topic.latest();
    let send = async |body: &'static str| {
        service.call(Request::post("/").body(Full::<Bytes>::from(body)).unwrap()).await.unwrap().status()
    };
    assert_eq!(send("[1, 2]").await, StatusCode::OK);
    assert_eq!(send("[1, -2]").await, StatusCode::BAD_REQUEST);
    assert_eq!(send("[3]").await, StatusCode::OK);
    let request = get(&format!("/?since={start}")).body(Empty::<Bytes>::new()).unwrap();
    let response = service.call(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "[[1,2],[3]]");
}

#[tokio::test]
async fn who_is_not_authorised_is_not_parked() {
    let topic = lines();
    let service = Builder::new(topic.clone())
        .publish(10, |_, body| Ok(body))
        .authorize(|request| match request.headers.get("authorization") {
            Some(token) if token == "let me in" => Ok(()),
            _ => Err(Refusal::new(StatusCode::UNAUTHORIZED, "sign in first")),
        })
        .build();
    for request in [get("/"), get("/").header("accept", "text/event-stream"), Request::post("/")] {
        let refused = answer(&service, request).await;
        assert_eq!((refused.status, &refused.body[..]), (StatusCode::UNAUTHORIZED, &b"sign in first\n"[..]));
    }
    assert_eq!((topic.waiting(), topic.latest()), (0, topic.oldest()));
    let mut parked = pin!(call(&service, get("/").header("authorization", "let me in")));
    assert!(is_parked(&mut parked));
}

#[tokio::test]
async fn a_request_finds_its_topic() {
    let topics: Topics<Bytes> = topic::Builder::new(Lines).registry(1, Duration::from_secs(60));
    let rooms = topics.clone();
    let service = Builder::find(move |request| {
        rooms.open(request.uri.path()).map_err(|full| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, full))
    })
    .build();
    let mut parked = pin!(call(&service, get("/a")));
    assert!(is_parked(&mut parked));
    assert_eq!(topics.get("/a").unwrap().waiting(), 1);
    assert_eq!(answer(&service, get("/b")).await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn who_polls_is_present() {
    let changes = Arc::new(Mutex::new(Vec::new()));
    let told = changes.clone();
    let presence = Presence::new(Duration::from_secs(5), 1, move |change| told.lock().unwrap().push(change));
    let service =
        Builder::new(lines()).presence(presence.clone(), |request| request.uri.query().map(str::to_owned)).build();
    for _ in 0..3 {
        assert_eq!(answer(&service, get("/?ada")).await.status, StatusCode::NO_CONTENT);
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
    assert_eq!(answer(&service, get("/?bob")).await.status, StatusCode::SERVICE_UNAVAILABLE);
    let events = answer_events(&service, get("/?ada")).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(presence.all(), ["ada"]);
    drop(events);
    tokio::time::sleep(Duration::from_secs(6)).await;
    let changes = changes.lock().unwrap();
    assert_eq!(*changes, [PresenceChange::Joined("ada".to_owned()), PresenceChange::Left("ada".to_owned())]);
}

async fn answer_events(service: &TopicService<Bytes>, request: http::request::Builder) -> Events {
    let response = call(service, request.header("accept", "text/event-stream")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-store");
    Events(response.into_body())
}

struct Events(TopicBody<Bytes>);

impl Events {
    async fn next(&mut self) -> String {
        let frame = self.0.frame().await.expect("a stream of events does not end").unwrap();
        String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
    }

    fn is_silent(&mut self) -> bool {
        pin!(self.0.frame()).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }
}

#[tokio::test(start_paused = true)]
async fn events_carry_their_cursor_and_go_on_by_the_last_one() {
    let topic = lines();
    let service = Builder::new(topic.clone()).retry(Duration::from_millis(1500)).build();
    let start = topic.latest();
    let mut events = answer_events(&service, get("/")).await;
    assert_eq!(events.next().await, format!("retry: 1500\nid: {start}\n\n"));
    assert!(events.is_silent());
    let one = topic.publish("one".into()).unwrap().cursor;
    assert_eq!(events.next().await, format!("id: {one}\ndata: one\n\n"));
    let two = topic.publish("two\nlines".into()).unwrap().cursor;
    let named = topic.publish("named greeting".into()).unwrap().cursor;
    let both = format!("id: {two}\ndata: two\ndata: lines\n\nid: {named}\nevent: greeting\ndata: named greeting\n\n");
    assert_eq!(events.next().await, both);
    assert_eq!(topic.waiting(), 0, "what has been answered and not polled again waits nowhere");
    assert!(events.is_silent());
    assert_eq!(topic.waiting(), 1);
    drop(events);
    assert_eq!(topic.waiting(), 0);

    let since = format!("/?since={start}");
    let mut resumed = answer_events(&service, get(&since).header("last-event-id", one.to_string())).await;
    resumed.next().await;
    assert_eq!(resumed.next().await, both);
    let mut from_url = answer_events(&service, get(&format!("/?since={one}")).header("last-event-id", "")).await;
    from_url.next().await;
    assert_eq!(from_url.next().await, both);
}

#[tokio::test(start_paused = true)]
async fn a_reader_too_slow_is_told_its_gap_when_it_reads_again() {
    let topic = lines();
    let service = TopicService::new(topic.clone());
    let mut events = answer_events(&service, get("/")).await;
    events.next().await;
    assert!(events.is_silent());
    let cursors: Vec<_> = (0..10).map(|n| topic.publish(n.to_string().into()).unwrap().cursor).collect();
    assert_eq!(events.next().await, format!("id: {}\nevent: gap\ndata: {{\"missed\":7}}\n\n", cursors[6]));
    let kept: String = (7..10).map(|n| format!("id: {}\ndata: {n}\n\n", cursors[n])).collect();
    assert_eq!(events.next().await, kept);
    assert!(events.is_silent());

    let other = Topic::raw().latest();
    let mut events = answer_events(&service, get("/").header("last-event-id", other.to_string())).await;
    events.next().await;
    assert_eq!(events.next().await, format!("id: {}\nevent: gap\ndata: {{\"missed\":null}}\n\n", cursors[6]));
    assert_eq!(events.next().await, kept);
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_has_a_heartbeat() {
    let topic = lines();
    let service = Builder::new(topic.clone()).heartbeat(Duration::from_secs(15)).build();
    let mut events = answer_events(&service, get("/")).await;
    events.next().await;
    let begin = Instant::now();
    for beat in 1..=3_u32 {
        assert_eq!(events.next().await, ":\n\n");
        let (at, due) = (begin.elapsed(), Duration::from_secs(15) * beat);
        assert!(at >= due && at <= due + Duration::from_millis(300) * beat, "{at:?}");
    }
    topic.publish("one".into()).unwrap();
    assert!(events.next().await.ends_with("data: one\n\n"));
}

#[test]
fn what_waits_is_small() {
    assert_eq!(size_of::<ResponseFuture<Bytes>>(), 64);
    assert_eq!(size_of::<TopicBody<Bytes>>(), 32);
}

#[tokio::test]
async fn a_topic_is_a_tower_service_too() {
    let mut service = TopicService::new(lines());
    let request = get("/").header("prefer", "wait=0").body(Empty::<Bytes>::new()).unwrap();
    std::future::poll_fn(|cx| tower_service::Service::<Request<Empty<Bytes>>>::poll_ready(&mut service, cx))
        .await
        .unwrap();
    let response = tower_service::Service::call(&mut service, request).await.unwrap();
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
}

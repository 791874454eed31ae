//! Server-sent events read by a real browser's `EventSource`, which comes back by itself and goes on where it stopped.
#![cfg(all(feature = "topic", feature = "acceptor"))]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "support/browser.rs"]
mod browser;
#[path = "support/serve.rs"]
mod support;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fantoccini::{Client, Locator};
use http::{HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::{Service, service_fn};
use hyper_deferred::BoxError;
use hyper_deferred::topic::http::TopicService;
use hyper_deferred::topic::{Builder, Encode};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::browser::Browser;

/// For what has a pace of its own: the first load of the page, and the browser's coming back.
const LATER: Duration = Duration::from_secs(20);

/// Shows each event as a line of `<kind> <data>`.
const PAGE: &str = r#"<!doctype html><title>events</title><ol id="log"></ol><script>
const show = event => {
    const item = document.createElement("li");
    item.textContent = `${event.type} ${JSON.stringify(event.data)}`;
    document.getElementById("log").append(item);
};
const source = new EventSource("/events");
for (const kind of ["message", "greeting", "gap"]) source.addEventListener(kind, show);
</script>"#;

type PageBody = UnsyncBoxBody<Bytes, Infallible>;

/// What the server sees of the browser's streams.
#[derive(Debug, PartialEq, Eq)]
enum Stream {
    Opened,
    Closed,
}

/// Text, of which the first word may name the event.
struct Text;

impl Encode<Bytes> for Text {
    fn content_type(&self) -> HeaderValue {
        HeaderValue::from_static("text/plain; charset=utf-8")
    }
    fn encode(&self, value: &Bytes) -> Result<Bytes, BoxError> {
        Ok(value.clone())
    }
    fn join(&self, messages: &[Bytes]) -> Bytes {
        messages.concat().into()
    }
    fn event<'a>(&self, value: &'a Bytes) -> Option<&'a str> {
        value.starts_with(b"greeting ").then_some("greeting")
    }
}

#[tokio::test]
#[ignore = "needs chromium and chromedriver: apt-get install chromium chromium-driver"]
async fn an_event_source_reads_on_and_comes_back_where_it_stopped() {
    let topic = Builder::new(Text).history_count_max(3).build();
    let events = hyper_deferred::topic::http::Builder::new(topic.clone()).retry(Duration::from_millis(100)).build();
    let cut = Arc::new(Notify::new());
    let (cutting, (see, mut seen)) = (cut.clone(), unbounded_channel());
    let served = support::serve(move || site(events, cutting, see));

    let browser = Browser::start();
    let page = browser.session().await;
    page.goto(&format!("http://{}/", served.addr)).await.unwrap();
    until(&mut seen, Stream::Opened).await;
    topic.publish("one".into()).unwrap();
    topic.publish("two\nlines \u{1f980}".into()).unwrap();
    topic.publish("greeting all".into()).unwrap();
    let mut shown = vec![r#"message "one""#, "message \"two\\nlines \u{1f980}\"", r#"greeting "greeting all""#];
    shows(&page, &shown).await;

    // The stream ends, and messages come before the browser is back.
    cut.notify_one();
    until(&mut seen, Stream::Closed).await;
    topic.publish("while away".into()).unwrap();
    until(&mut seen, Stream::Opened).await;
    shown.push(r#"message "while away""#);
    shows(&page, &shown).await;

    // More than are kept.
    cut.notify_one();
    until(&mut seen, Stream::Closed).await;
    for n in 0..5 {
        topic.publish(n.to_string().into()).unwrap();
    }
    until(&mut seen, Stream::Opened).await;
    shown.extend([r#"gap "{\"missed\":2}""#, r#"message "2""#, r#"message "3""#, r#"message "4""#]);
    shows(&page, &shown).await;
    page.close().await.unwrap();
}

/// The page, and the topic. Each time that it is notified it ends the stream that is open.
fn site(
    events: TopicService<Bytes>,
    cut: Arc<Notify>,
    seen: UnboundedSender<Stream>,
) -> impl Service<Request<Incoming>, Response = Response<PageBody>, Error = Infallible> {
    service_fn(move |request: Request<Incoming>| {
        let (events, cut, seen) = (events.clone(), cut.clone(), seen.clone());
        async move {
            match request.uri().path() {
                "/events" => {
                    let response = Service::call(&events, request).await?;
                    seen.send(Stream::Opened).unwrap();
                    let cut = Box::pin(async move { cut.notified().await });
                    Ok(response.map(|body| Cut { body, cut, seen }.boxed_unsync()))
                }
                "/" => {
                    let page = Response::builder().header("content-type", "text/html; charset=utf-8");
                    Ok(page.body(Full::from(PAGE).boxed_unsync()).unwrap())
                }
                _ => Ok(Response::builder().status(404).body(Full::default().boxed_unsync()).unwrap()),
            }
        }
    })
}

/// A body that ends when it is told to, and tells when it has.
struct Cut<B> {
    body: B,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    seen: UnboundedSender<Stream>,
}

impl<B: Body + Unpin> Body for Cut<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }
}

impl<B> Drop for Cut<B> {
    fn drop(&mut self) {
        let _test_is_over = self.seen.send(Stream::Closed);
    }
}

/// Waits until the browser has opened a stream, or has lost it.
async fn until(seen: &mut UnboundedReceiver<Stream>, what: Stream) {
    let next = tokio::time::timeout(LATER, seen.recv()).await.expect("the browser comes by itself");
    assert_eq!(next, Some(what));
}

/// Waits until the page shows these events, and no others.
async fn shows(page: &Client, events: &[&str]) {
    let last = format!("//li[{}]", events.len());
    page.wait().at_most(LATER).for_element(Locator::XPath(&last)).await.unwrap();
    let mut shown = Vec::new();
    for item in page.find_all(Locator::Css("li")).await.unwrap() {
        shown.push(item.text().await.unwrap());
    }
    assert_eq!(shown, events);
}

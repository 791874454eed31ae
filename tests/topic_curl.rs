//! A topic read by curl, with nothing but what anyone would type.
#![cfg(all(feature = "topic", feature = "acceptor"))]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "support/serve.rs"]
mod support;

use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use bytes::Bytes;
use hyper_deferred::Topic;
use hyper_deferred::topic::http::Builder;

use crate::support::{Served, serve};

fn serve_topic() -> (Topic<Bytes>, Served) {
    let topic = Topic::raw();
    let service = Builder::new(topic.clone()).publish(1000, |_, body| Ok(body)).build();
    (topic, serve(move || service))
}

fn curl(addr: SocketAddr, args: &[&str]) -> Command {
    let mut curl = Command::new("curl");
    // `--max-time` is a guard: nothing here takes that long.
    curl.args(["--silent", "--show-error", "--max-time", "20"]).args(args).arg(format!("http://{addr}/"));
    curl.stdin(Stdio::null());
    curl
}

fn ended(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn entity_tag(response: &str) -> &str {
    response.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap()
}

#[test]
fn a_long_poll_needs_nothing_but_the_entity_tag() {
    let (topic, served) = serve_topic();
    let addr = served.addr;
    let begin = ended(curl(addr, &["-i", "-H", "Prefer: wait=0"]).output().unwrap());
    assert!(begin.starts_with("HTTP/1.1 204 No Content\r\n"), "{begin}");

    let parked = curl(addr, &["-i", "-H", &format!("If-None-Match: {}", entity_tag(&begin))])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while topic.waiting() == 0 {
        std::thread::yield_now();
    }
    topic.publish("hello".into()).unwrap();
    let first = ended(parked.wait_with_output().unwrap());
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n") && first.ends_with("\r\n\r\nhello"), "{first}");
    assert_eq!(entity_tag(&first), format!("\"{}\"", topic.latest()));

    // What came between two polls.
    topic.publish("there".into()).unwrap();
    let next = curl(addr, &["-H", &format!("If-None-Match: {}", entity_tag(&first))]).output().unwrap();
    assert_eq!(ended(next), "there");
}

#[test]
fn curl_publishes() {
    let (topic, served) = serve_topic();
    let start = topic.latest();
    let answer = ended(curl(served.addr, &["--data-binary", "hello"]).output().unwrap());
    assert_eq!(answer, format!("{{\"cursor\":\"{}\",\"waiting\":0}}\n", topic.latest()));
    let since = ended(curl(served.addr, &["-G", "--data-urlencode", &format!("since={start}")]).output().unwrap());
    assert_eq!(since, "hello");
}

/// A curl that reads events, killed when dropped.
struct Events {
    curl: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Events {
    fn read(addr: SocketAddr, args: &[&str]) -> Self {
        let args = [&["--no-buffer", "-H", "Accept: text/event-stream"], args].concat();
        let mut curl = curl(addr, &args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(curl.stdout.take().unwrap()).lines();
        Self { curl, lines }
    }

    /// The lines of the next event.
    fn next(&mut self) -> Vec<String> {
        self.lines.by_ref().map(|line| line.unwrap()).take_while(|line| !line.is_empty()).collect()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.curl.kill().unwrap();
        self.curl.wait().unwrap();
    }
}

#[test]
fn curl_reads_events_and_goes_on_where_it_stopped() {
    let (topic, served) = serve_topic();
    let start = topic.latest();
    let mut events = Events::read(served.addr, &[]);
    assert_eq!(events.next(), ["retry: 2000".to_owned(), format!("id: {start}")]);
    let one = topic.publish("one\ntwo".into()).unwrap().cursor;
    assert_eq!(events.next(), [format!("id: {one}"), "data: one".to_owned(), "data: two".to_owned()]);
    drop(events);
    while topic.waiting() > 0 {
        std::thread::yield_now();
    }
    let three = topic.publish("three".into()).unwrap().cursor;
    let mut events = Events::read(served.addr, &["-H", &format!("Last-Event-ID: {one}")]);
    events.next();
    assert_eq!(events.next(), [format!("id: {three}"), "data: three".to_owned()]);
}

//! Several topics with one request, over real sockets.
#![cfg(all(feature = "acceptor", feature = "json"))]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use form_urlencoded::parse;
use http::StatusCode;
use hyper_deferred::topic::http::{Builder, Refusal};
use hyper_deferred::topic::{self, Encode, Json, Raw};
use hyper_deferred::{Acceptor, Topics};
use serde_json::{Value, json};
use support::{Client, Head, Server};

/// So long that a test which waited for it would fail.
const NEVER: Duration = Duration::from_secs(3600);

const HISTORY: usize = 3;

struct Rooms<T> {
    topics: Topics<T>,
    server: Server,
}

impl Rooms<String> {
    fn of_json() -> Self {
        Self::of(Json, |body| serde_json::from_slice(&body).unwrap())
    }
}

impl<T: Send + Sync + 'static> Rooms<T> {
    /// `GET /?room=a&room=b`, with rooms that are made as they are named.
    fn of(encode: impl Encode<T>, decode: impl Fn(Bytes) -> T + Send + Sync + 'static) -> Self {
        let topics = topic::Builder::new(encode).history_count_max(HISTORY).registry(100, NEVER);
        let rooms = topics.clone();
        let service = Builder::find_several(move |request| {
            let query = request.uri.query().unwrap_or_default().as_bytes();
            let names = parse(query).filter(|(key, _)| key == "room").map(|(_, name)| name.into_owned());
            let open = |name: String| match rooms.open(&name) {
                Ok(room) => Ok((name, room)),
                Err(full) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, full)),
            };
            names.map(open).collect()
        })
        .wait(NEVER)
        .heartbeat(NEVER)
        .publish(100, move |_, body| Ok(decode(body)))
        .build();
        let acceptor = Acceptor::bind("127.0.0.1:0").unwrap().shutdown_timeout(NEVER);
        Self { topics, server: Server::run(acceptor, || service) }
    }

    fn client(&self) -> Client {
        Client::connect(self.server.addr)
    }

    fn say(&self, room: &str, message: T) {
        self.topics.open(room).unwrap().publish(message).unwrap_or_else(|error| panic!("{error}"));
    }

    fn end(self) {
        self.server.handle.shutdown();
        self.server.join();
    }
}

/// Asks for rooms, and sends `fields` along.
fn ask(client: &mut Client, query: &str, fields: &str) {
    client.write(format!("GET /?{query} HTTP/1.1\r\nhost: test\r\n{fields}\r\n"));
}

fn read(client: &mut Client) -> (Head, Value) {
    let head = client.read_head();
    let body = client.read_body(&head);
    let news = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    (head, news)
}

/// What the next request says.
fn after(head: &Head) -> String {
    format!("if-none-match: {}\r\n", head.field("etag").unwrap())
}

#[test]
fn one_request_waits_for_several_topics_and_goes_on_by_one_cursor() {
    let rooms = Rooms::of_json();
    let mut client = rooms.client();
    ask(&mut client, "room=a&room=b&room=c", "prefer: wait=0\r\n");
    let (head, _) = read(&mut client);
    assert_eq!((head.status, head.field("preference-applied")), (204, Some("wait=0")));

    // It waits, or comes later: nothing is lost either way.
    ask(&mut client, "room=a&room=b&room=c", &after(&head));
    rooms.say("b", "one".into());
    let (head, news) = read(&mut client);
    assert_eq!((head.status, head.field("content-type")), (200, Some("application/json")));
    assert_eq!((head.field("cache-control"), head.field("topic-missed")), (Some("no-store"), None));
    assert_eq!(news, json!([{ "topic": "b", "messages": ["one"] }]));

    // Between two polls.
    rooms.say("c", "two".into());
    rooms.say("a", "three".into());
    rooms.say("c", "four".into());
    ask(&mut client, "room=a&room=b&room=c", &after(&head));
    let (head, news) = read(&mut client);
    let expected = json!([{ "topic": "a", "messages": ["three"] }, { "topic": "c", "messages": ["two", "four"] }]);
    assert_eq!(news, expected);
    ask(&mut client, "room=a&room=b&room=c", &format!("{}prefer: wait=0\r\n", after(&head)));
    assert_eq!(read(&mut client).0.status, 204);
    rooms.end();
}

#[test]
fn each_topics_gap_is_told() {
    let rooms = Rooms::of_json();
    let mut client = rooms.client();
    ask(&mut client, "room=a&room=b", "prefer: wait=0\r\n");
    let (start, _) = read(&mut client);
    for n in 1..=5 {
        rooms.say("a", n.to_string());
    }
    rooms.say("b", "only".into());
    ask(&mut client, "room=a&room=b", &after(&start));
    let (head, news) = read(&mut client);
    assert_eq!(head.field("topic-missed"), Some("2"));
    let a = json!({ "topic": "a", "missed": 2, "messages": ["3", "4", "5"] });
    assert_eq!(news, json!([a, { "topic": "b", "messages": ["only"] }]));

    // Another life of one of them.
    rooms.topics.remove("b");
    ask(&mut client, "room=a&room=b", &after(&start));
    let (head, news) = read(&mut client);
    assert_eq!(head.field("topic-missed"), Some("unknown"));
    assert_eq!(news, json!([a, { "topic": "b", "missed": null, "messages": [] }]));
    rooms.end();
}

#[test]
fn a_cursor_of_other_topics_and_a_request_for_none_are_refused() {
    let rooms = Rooms::of_json();
    let mut client = rooms.client();
    ask(&mut client, "room=a&room=b", "prefer: wait=0\r\n");
    let two = after(&read(&mut client).0);
    let many = ["room=a"; 65].join("&");
    for (query, fields) in [("room=a", &*two), ("room=a&room=b&room=c", &two), ("", ""), (&many, "")] {
        ask(&mut client, query, fields);
        let head = client.read_head();
        client.read_body(&head);
        assert_eq!(head.status, 400, "{query}");
    }
    ask(&mut client, "room=a&since=garbage", "");
    assert_eq!(client.read_head().status, 400);
    rooms.end();
}

#[test]
fn a_message_is_published_to_one_topic() {
    let rooms = Rooms::of_json();
    let mut client = rooms.client();
    for (query, status) in [("room=a", 200), ("room=a&room=b", 400), ("", 400)] {
        client.write(format!("POST /?{query} HTTP/1.1\r\nhost: test\r\ncontent-length: 7\r\n\r\n\"hello\""));
        let head = client.read_head();
        client.read_body(&head);
        assert_eq!(head.status, status, "{query}");
    }
    ask(&mut client, "room=b&room=a&since=oldest", "");
    assert_eq!(read(&mut client).1, json!([{ "topic": "a", "messages": ["hello"] }]));
    rooms.end();
}

#[test]
fn the_names_of_topics_and_messages_that_are_no_json_are_text() {
    let rooms = Rooms::of(Raw, |body| body);
    let name = "a \"quoted\" \u{1f600}\n";
    rooms.say(name, "no \"JSON\"\n".into());
    rooms.say("b", vec![0xff, b'x'].into());
    let mut client = rooms.client();
    let query = "room=a+%22quoted%22+%F0%9F%98%80%0A&room=b&since=oldest";
    ask(&mut client, query, "");
    let expected =
        json!([{ "topic": name, "messages": ["no \"JSON\"\n"] }, { "topic": "b", "messages": ["\u{fffd}x"] }]);
    assert_eq!(read(&mut client).1, expected);
    rooms.end();
}

/// Reads the events of a chunk: their ids, names and data.
fn events(client: &mut Client) -> Vec<(String, String, Value)> {
    let chunk = String::from_utf8(client.read_chunk()).unwrap();
    let event = |text: &str| {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
        (field("id: "), field("event: "), serde_json::from_str(&field("data: ")).unwrap())
    };
    chunk.split_terminator("\n\n").map(event).collect()
}

#[test]
fn a_stream_of_several_topics_goes_on_after_each_of_its_events() {
    let rooms = Rooms::of_json();
    let mut client = rooms.client();
    ask(&mut client, "room=a&room=b", "accept: text/event-stream\r\n");
    assert_eq!(client.read_head().field("content-type"), Some("text/event-stream"));
    assert!(client.read_chunk().starts_with(b"retry: "));
    let mut ids = Vec::new();
    for (room, message) in [("a", "one"), ("b", "two"), ("a", "three")] {
        rooms.say(room, message.into());
        let [(id, event, data)] = <[_; 1]>::try_from(events(&mut client)).unwrap();
        assert_eq!((&*event, data), ("", json!({ "topic": room, "message": message })));
        ids.push(id);
    }

    let mut again = rooms.client();
    ask(&mut again, "room=a&room=b", &format!("accept: text/event-stream\r\nlast-event-id: {}\r\n", ids[0]));
    assert_eq!(again.read_head().status, 200);
    again.read_chunk();
    let came: Vec<Value> = events(&mut again).into_iter().map(|(_, _, data)| data).collect();
    assert_eq!(came, [json!({ "topic": "a", "message": "three" }), json!({ "topic": "b", "message": "two" })]);

    for n in 1..=4 {
        rooms.say("b", n.to_string());
    }
    let mut late = rooms.client();
    ask(&mut late, "room=a&room=b", &format!("accept: text/event-stream\r\nlast-event-id: {}\r\n", ids[2]));
    assert_eq!(late.read_head().status, 200);
    late.read_chunk();
    let came = events(&mut late);
    assert_eq!((&*came[0].1, &came[0].2), ("gap", &json!({ "topic": "b", "missed": 1 })));
    assert_eq!(came[1].2, json!({ "topic": "b", "message": "2" }));
    // Whoever comes back after the gap was told does not hear of it again.
    let mut told = rooms.client();
    ask(&mut told, "room=a&room=b&since=oldest", &format!("if-none-match: \"{}\"\r\n", came[0].0));
    let messages = json!([{ "topic": "b", "messages": ["2", "3", "4"] }]);
    assert_eq!(read(&mut told).1, messages);

    rooms.server.handle.shutdown();
    assert!(late.read_to_end().ends_with(b"0\r\n\r\n"));
    assert_eq!(again.read_chunk().last(), Some(&b'\n'));
    rooms.server.join();
}

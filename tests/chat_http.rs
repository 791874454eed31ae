//! The chat example's HTTP, byte for byte, over real sockets.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "support/chat.rs"]
mod chat;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use socket2::SockRef;

use crate::chat::Chat;

/// Longer than anything here takes, so that what hangs fails.
const GUARD: Duration = Duration::from_secs(60);

#[test]
fn says_what_is_wrong_with_a_message() {
    let chat = Chat::start(0);
    let mut client = Client::connect(chat.addr);
    let long = "x".repeat(2_001);
    for (body, status, why) in [
        ("not JSON".to_owned(), 400, "this is no message"),
        (json!({ "name": "Ann", "text": 7 }).to_string(), 400, "invalid type: integer `7`, expected a string"),
        ("{}".to_owned(), 422, "the name is empty"),
        (json!({ "name": "Ann" }).to_string(), 422, "the text is empty"),
        (json!({ "name": "Ann", "text": " \n" }).to_string(), 422, "the text is empty"),
        (json!({ "name": "x".repeat(41), "text": "hello" }).to_string(), 422, "the name has 41 characters"),
        (json!({ "name": "Ann", "text": long }).to_string(), 422, "the text has 2001 characters, at most 2000"),
    ] {
        let answer = client.post("/topic", &body);
        assert_eq!(answer.status, status, "{body}");
        assert!(answer.body.contains(why), "{body} is refused with {:?}", answer.body);
    }
    assert_eq!(client.get("/topic?since=x").status, 400);
    assert_eq!(client.get("/topic?name=").status, 422);
    assert_eq!(client.get("/nowhere").status, 404);
    assert_eq!(client.post("/now", "{}").status, 405);
}

#[test]
fn takes_two_thousand_characters_of_any_kind() {
    let chat = Chat::start(0);
    let mut client = Client::connect(chat.addr);
    let text = "\u{1f600}".repeat(2_000);
    let escaped = format!(r#"{{"name": "Ann", "text": "{}"}}"#, r"\ud83d\ude00".repeat(2_000));
    assert_eq!(client.post("/topic", &escaped).status, 200);
    assert_eq!(client.get("/topic?since=oldest").json()[0]["text"], text);
}

#[test]
fn refuses_a_body_beyond_the_limit_without_reading_it_all() {
    let chat = Chat::start(0);
    let mut client = Client::connect(chat.addr);
    client.send("POST /topic HTTP/1.1\r\nhost: chat\r\ncontent-length: 1000000000\r\n\r\n");
    client.send(&"x".repeat(30_000));
    assert_eq!(client.read_answer().status, 413);
}

#[test]
fn a_poll_waits_for_the_next_message_and_gets_all_that_it_missed() {
    let chat = Chat::start(0);
    let mut speaker = Client::connect(chat.addr);
    let mut poller = Client::connect(chat.addr);

    poller.ask("/topic?since=oldest");
    speaker.wait_until_parked(1);
    let first = speaker.say("first");
    let news = poller.read_answer();
    assert_eq!(news.texts(), ["first"]);
    assert_eq!(news.cursor(), first);

    // Between two polls of the client.
    speaker.say("second");
    speaker.say("third");
    let news = poller.get(&format!("/topic?since={first}"));
    assert_eq!(news.texts(), ["second", "third"]);
    assert_eq!(news.header("topic-missed"), None);
}

#[test]
fn the_same_address_sends_events_to_who_asks_for_them() {
    let chat = Chat::start(0);
    let mut speaker = Client::connect(chat.addr);
    let cursor = speaker.say("hello");
    let mut reader = Client::connect(chat.addr);
    reader.send("GET /topic?since=oldest HTTP/1.1\r\nhost: chat\r\naccept: text/event-stream\r\n\r\n");
    let head = reader.read_head();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("content-type: text/event-stream"), "{head}");
    let mut text = String::new();
    while !text.contains("\"hello\"") {
        assert_ne!(reader.stream.read_line(&mut text).unwrap(), 0, "the stream ended after {text:?}");
    }
    assert!(text.contains(&format!("id: {cursor}\ndata: {{\"name\":\"Ann\"")), "{text}");

    let chat = Chat::start_with(0, &["--no-events"]);
    let mut reader = Client::connect(chat.addr);
    reader.send("GET /topic HTTP/1.1\r\nhost: chat\r\naccept: text/event-stream\r\n\r\n");
    assert_eq!(reader.read_answer().status, 406);
}

#[test]
fn a_poll_is_answered_with_204_when_the_time_is_up() {
    let chat = Chat::start_with(0, &["--wait", "0"]);
    let mut client = Client::connect(chat.addr);
    let answer = client.get("/topic");
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    assert_eq!(client.now()["parked"], 0);
}

#[test]
fn who_arrives_gets_the_last_200_messages_and_who_was_away_too_long_is_told() {
    let chat = Chat::start(0);
    let mut client = Client::connect(chat.addr);
    let cursors: Vec<String> = (1..=203).map(|number| client.say(&number.to_string())).collect();
    let news = client.get("/topic?since=oldest");
    let expected: Vec<_> = (4..=203).map(|number| number.to_string()).collect();
    assert_eq!(news.texts(), expected);
    assert_eq!(news.header("topic-missed"), None, "who arrives has missed nothing");
    assert_eq!(client.get(&format!("/topic?since={}", cursors[0])).header("topic-missed"), Some("2"));
    assert_eq!(client.get(&format!("/topic?since={}", cursors[2])).header("topic-missed"), None);
}

#[test]
fn a_poll_from_before_a_restart_is_answered_at_once() {
    let before = Client::connect(Chat::start(0).addr).say("before");
    let chat = Chat::start(0);
    let mut client = Client::connect(chat.addr);
    assert_eq!(client.get(&format!("/topic?since={before}")).header("topic-missed"), Some("unknown"));
    client.say("after");
    let news = client.get(&format!("/topic?since={before}"));
    assert_eq!((news.texts(), news.header("topic-missed")), (vec!["after".to_owned()], Some("unknown")));
}

#[test]
fn people_are_listed_while_they_poll_and_leave_when_they_hang_up() {
    let chat = Chat::start(0);
    let mut watcher = Client::connect(chat.addr);
    let (ann, ben) = (Client::connect(chat.addr), Client::connect(chat.addr));
    ann.ask("/topic?name=Ann");
    ben.ask("/topic?name=Ben%20%C3%96");
    watcher.wait_until(|now| now["people"] == json!(["Ann", "Ben Ö"]));
    ben.hang_up();
    watcher.wait_until_parked(1);
    assert_eq!(watcher.now()["people"], json!(["Ann", "Ben Ö"]), "it might come back at once");
    watcher.wait_until(|now| now["people"] == json!(["Ann"]));
}

#[test]
fn a_waiter_whose_client_left_leaves_the_list_although_nobody_says_anything() {
    let chat = Chat::start(0);
    let mut watcher = Client::connect(chat.addr);
    let pollers: Vec<_> = (0..20).map(|_| Client::connect(chat.addr)).collect();
    for poller in &pollers {
        poller.ask("/topic");
    }
    watcher.wait_until_parked(20);
    drop(pollers);
    watcher.wait_until_parked(0);
}

#[test]
fn hanging_up_a_hundred_thousand_times_leaves_nothing_behind() {
    const AT_A_TIME: usize = 500;
    const TIMES: usize = 200;
    raise_open_files_limit();
    let chat = Chat::start(0);
    let mut watcher = Client::connect(chat.addr);
    let park_and_hang_up = |watcher: &mut Client| {
        let pollers: Vec<_> = (0..AT_A_TIME).map(|_| Client::connect(chat.addr)).collect();
        for poller in &pollers {
            poller.ask("/topic");
        }
        watcher.wait_until_parked(AT_A_TIME);
        for poller in pollers {
            poller.reset();
        }
        watcher.wait_until_parked(0);
    };
    for _ in 0..10 {
        park_and_hang_up(&mut watcher);
    }
    let before = resident_bytes(&chat);
    for _ in 0..TIMES {
        park_and_hang_up(&mut watcher);
    }
    // A leak of as little as 20 bytes a request would show.
    let grown = resident_bytes(&chat).saturating_sub(before);
    assert!(grown < AT_A_TIME * TIMES * 20, "the chat has grown by {grown} bytes");
}

#[test]
fn ctrl_c_answers_two_thousand_parked_polls_and_ends_with_status_0() {
    raise_open_files_limit();
    let chat = Chat::start(0);
    let mut watcher = Client::connect(chat.addr);
    let mut pollers: Vec<_> = (0..2_000).map(|_| Client::connect(chat.addr)).collect();
    for poller in &pollers {
        poller.ask("/topic");
    }
    watcher.wait_until_parked(2_000);
    chat.press_ctrl_c();
    for poller in &mut pollers {
        let answer = poller.read_answer();
        assert_eq!(answer.status, 503);
        assert!(answer.head.contains("\r\nretry-after: "), "{}", answer.head);
    }
    assert!(chat.wait().success());
}

#[test]
fn ctrl_c_ends_a_hundred_streams_of_events_in_order_and_ends_with_status_0() {
    let chat = Chat::start(0);
    let mut watcher = Client::connect(chat.addr);
    let mut readers: Vec<_> = (0..100).map(|_| Client::connect(chat.addr)).collect();
    for reader in &mut readers {
        reader.send("GET /topic HTTP/1.1\r\nhost: chat\r\naccept: text/event-stream\r\n\r\n");
        assert!(reader.read_head().starts_with("HTTP/1.1 200 OK\r\n"));
    }
    watcher.wait_until_parked(100);
    chat.press_ctrl_c();
    for reader in &mut readers {
        let mut rest = String::new();
        reader.stream.read_to_string(&mut rest).unwrap();
        // Cut off at a deadline, it would have no last chunk.
        assert!(rest.ends_with("\r\n0\r\n\r\n"), "{rest:?}");
    }
    assert!(chat.wait().success());
}

#[test]
fn help_and_mistakes_in_the_command_line_are_told() {
    let help = chat::run(&["--help"]);
    assert!(help.status.success());
    for option in ["--host", "--port", "--wait", "--no-events"] {
        assert!(String::from_utf8_lossy(&help.stdout).contains(option));
    }
    for args in [&["--port"][..], &["--port", "x"], &["--nonsense"]] {
        let mistake = chat::run(args);
        assert_eq!(mistake.status.code(), Some(2), "{args:?}");
        assert!(String::from_utf8_lossy(&mistake.stderr).contains(args[0]), "{args:?}");
    }
}

// ===== helpers =====

/// A keep-alive connection that sends and reads bytes as they are.
struct Client {
    stream: BufReader<TcpStream>,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Client {
    fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        Self { stream: BufReader::with_capacity(1_024, stream) }
    }

    fn send(&self, bytes: &str) {
        self.stream.get_ref().write_all(bytes.as_bytes()).unwrap();
    }

    /// Sends a GET and leaves its answer unread.
    fn ask(&self, target: &str) {
        self.send(&format!("GET {target} HTTP/1.1\r\nhost: chat\r\n\r\n"));
    }

    fn get(&mut self, target: &str) -> Answer {
        self.ask(target);
        self.read_answer()
    }

    fn post(&mut self, target: &str, body: &str) -> Answer {
        let length = body.len();
        self.send(&format!("POST {target} HTTP/1.1\r\nhost: chat\r\ncontent-length: {length}\r\n\r\n{body}"));
        self.read_answer()
    }

    /// Gives the cursor behind the message.
    fn say(&mut self, text: &str) -> String {
        let answer = self.post("/topic", &json!({ "name": "Ann", "text": text }).to_string());
        answer.json()["cursor"].as_str().unwrap().to_owned()
    }

    fn now(&mut self) -> Value {
        self.get("/now").json()
    }

    fn wait_until_parked(&mut self, count: usize) {
        self.wait_until(|now| now["parked"] == count);
    }

    /// Asks again and again, each answer being a step of the server.
    fn wait_until(&mut self, reached: impl Fn(&Value) -> bool) {
        let give_up = std::time::Instant::now() + GUARD;
        loop {
            let now = self.now();
            if reached(&now) {
                return;
            }
            assert!(std::time::Instant::now() < give_up, "still {now}");
        }
    }

    fn read_head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.stream.read_line(&mut head).unwrap(), 0, "the server hung up after {head:?}");
        }
        head
    }

    fn read_answer(&mut self) -> Answer {
        let head = self.read_head();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.stream.read_exact(&mut body).unwrap();
        Answer { status, head, body: String::from_utf8(body).unwrap() }
    }

    fn hang_up(&self) {
        // A second time it is not connected any more.
        let _: io::Result<()> = self.stream.get_ref().shutdown(std::net::Shutdown::Both);
    }

    /// Hangs up with a reset: an orderly end keeps the client's port in use for a minute, too long for many.
    fn reset(self) {
        SockRef::from(self.stream.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

impl Answer {
    fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}{}", self.head, self.body);
        serde_json::from_str(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn cursor(&self) -> &str {
        self.header("etag").unwrap().trim_matches('"')
    }

    fn texts(&self) -> Vec<String> {
        let messages = self.json();
        messages.as_array().unwrap().iter().map(|message| message["text"].as_str().unwrap().to_owned()).collect()
    }
}

/// For this process and for the chats that it starts.
fn raise_open_files_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// The anonymous memory of the chat, as the system counts it.
fn resident_bytes(chat: &Chat) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", chat.pid())).unwrap();
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    kilobytes.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1_024
}

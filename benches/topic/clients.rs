//! The clients, all in one process.

use std::cell::{Cell, RefCell};
use std::io::BufRead;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::LocalSet;

use crate::hub::now_ns;
use crate::scenario::Scenario;

/// Clients come from so many addresses, because one has no more ports to connect from than there are clients.
const ADDRESSES: usize = 8;

/// What a browser sends along, and what its next poll says.
const HEAD: &str = "Host: 127.0.0.1\r\nConnection: keep-alive\r\nsec-ch-ua-platform: \"Linux\"\r\nUser-Agent: Mozilla/5.0 \
                    (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n\
                    sec-ch-ua: \"Chromium\";v=\"142\", \"Not_A Brand\";v=\"99\"\r\nsec-ch-ua-mobile: ?0\r\n\
                    Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n\
                    Referer: http://127.0.0.1/\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
                    Accept-Language: en-US,en;q=0.9\r\n";

/// What the clients have seen of the message of the moment.
#[derive(Default)]
struct Seen {
    clients: Cell<usize>,
    count: Cell<usize>,
    first: Cell<u64>,
}

impl Seen {
    /// A client has read a message that was published `at`.
    fn note(&self, at: u64) {
        let delay = now_ns() - at;
        self.count.set(self.count.get() + 1);
        if self.count.get() == 1 {
            self.first.set(delay);
        }
        if self.count.get() == self.clients.get() {
            self.count.set(0);
            println!("{} {delay}", self.first.get());
        }
    }
}

pub(crate) fn run(scenario: Scenario, port: u16) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = LocalSet::new();
    let seen = Rc::new(Seen::default());
    let topics = Rc::new(RefCell::new(scenario.topic_of_waiters().into_iter()));
    let (commands, mut told) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            commands.send(line.unwrap()).unwrap();
        }
    });
    local.block_on(&runtime, async {
        while let Some(line) = told.recv().await {
            let count: usize = line.strip_prefix("open ").unwrap().parse().unwrap();
            seen.clients.set(seen.clients.get() + count);
            open(scenario, port, count, &topics, &seen).await;
            println!("opened");
        }
    });
}

async fn open(
    scenario: Scenario,
    port: u16,
    count: usize,
    topics: &RefCell<std::vec::IntoIter<usize>>,
    seen: &Rc<Seen>,
) {
    for n in 0..count {
        let topic = topics.borrow_mut().next().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 2 + (n % ADDRESSES) as u8], 0).into()).unwrap();
        let mut stream = socket.connect(([127, 0, 0, 1], port).into()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        // A reset at the end leaves no port behind that the next session would miss.
        stream.set_zero_linger().unwrap();
        let accept = if scenario == Scenario::Events { "text/event-stream" } else { "application/json" };
        let request = format!("GET /{topic} HTTP/1.1\r\n{HEAD}Accept: {accept}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let seen = seen.clone();
        tokio::task::spawn_local(async move {
            match scenario {
                Scenario::Events => read_events(stream, &seen).await,
                Scenario::LongPoll | Scenario::ManyTopics => long_poll(stream, topic, &seen).await,
            }
        });
    }
}

async fn read_events(mut stream: TcpStream, seen: &Seen) {
    let mut bytes = Vec::with_capacity(1024);
    while stream.read_buf(&mut bytes).await.unwrap() > 0 {
        let text = std::str::from_utf8(&bytes).unwrap();
        // A whole message ends with a blank line, and its chunk with another.
        if let Some(at) = published_at(text).filter(|_| text.ends_with("\n\n\r\n")) {
            seen.note(at);
            bytes.clear();
        }
    }
}

async fn long_poll(mut stream: TcpStream, topic: usize, seen: &Seen) {
    let mut bytes = Vec::with_capacity(1024);
    while stream.read_buf(&mut bytes).await.unwrap() > 0 {
        let text = std::str::from_utf8(&bytes).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
        if field("content-length: ").unwrap().parse::<usize>().unwrap() > body.len() {
            continue;
        }
        seen.note(published_at(body).unwrap());
        let tag = field("etag: ").unwrap_or("\"0000000000.0\"");
        let next = format!("GET /{topic} HTTP/1.1\r\n{HEAD}Accept: application/json\r\nIf-None-Match: {tag}\r\n\r\n");
        stream.write_all(next.as_bytes()).await.unwrap();
        bytes.clear();
    }
}

fn published_at(text: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once("\"at\":")?;
    rest.split_once(',')?.0.parse().ok()
}

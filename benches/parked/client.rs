//! The clients: very many connections on one thread, and one more to ask the server things.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

/// The heads that are sent.
pub(crate) mod head {
    /// Of a browser: what a header looks like in the field, and 600 bytes.
    pub(crate) const BROWSER: &str = "\
        Host: www.example.com\r\n\
        Connection: keep-alive\r\n\
        Accept: application/json, text/plain, */*\r\n\
        User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 \
        Safari/537.36\r\n\
        sec-ch-ua: \"Chromium\";v=\"131\", \"Not_A Brand\";v=\"24\"\r\n\
        sec-ch-ua-mobile: ?0\r\n\
        sec-ch-ua-platform: \"Linux\"\r\n\
        Sec-Fetch-Site: same-origin\r\n\
        Sec-Fetch-Mode: cors\r\n\
        Sec-Fetch-Dest: empty\r\n\
        Referer: https://www.example.com/chat/room/42\r\n\
        Accept-Encoding: gzip, deflate, br, zstd\r\n\
        Accept-Language: en-GB,en;q=0.9\r\n\
        Cookie: session=0123456789abcdef0123456789abcdef\r\n";
    /// Of a load generator: as little as HTTP/1.1 allows.
    pub(crate) const SHORT: &str = "Host: localhost\r\n";
}

/// A JSON body of 200 bytes.
const JSON: &str = "{\"channel\":\"/meta/connect\",\"clientId\":\"0123456789abcdef0123456789abcdef\",\
    \"connectionType\":\"long-polling\",\"id\":\"420042\",\"advice\":{\"timeout\":30000},\"ext\":\
    {\"ack\":17,\"replay\":1732,\"token\":\"0123456789ab\"}}";

/// Nothing that is asked of the server takes this long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at sockets that have nothing. A client that slept on them would be woken by the server's sends, at
/// the server's expense, and the slower server would wake it more often. Clients elsewhere cost it nothing of the kind.
const PAUSE: Duration = Duration::from_micros(200);
/// How many connections are made before it is looked whether the server keeps up: fewer than an accept queue takes,
/// which may be 128. What overflows it is tried again a second later.
const CONNECT_BATCH: usize = 100;
/// The ports that connections come from: below those that the system gives away. Asked for any free one, it searches,
/// and with so many the search takes longer than all the rest.
const PORTS: Range<u16> = 10_000..30_000;
/// The last byte of the addresses that they come from: as many as other runs beside this one may need.
const HOSTS: Range<u8> = 2..10;

/// The connections.
pub(crate) struct Clients {
    addr: SocketAddr,
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    // How many addresses to connect from have been tried.
    addresses: usize,
    // Outside of the others, and blocking.
    control: Control,
}

struct Connection {
    stream: mio::net::TcpStream,
    // What has come of an answer that is not whole. Hardly ever used.
    partial: Vec<u8>,
}

/// The connection on which the server is asked things.
pub(crate) struct Control(TcpStream);

/// A request as it goes over the wire.
pub(crate) fn request(method: &str, path: &str, head: &str) -> Vec<u8> {
    let mut request = format!("{method} {path} HTTP/1.1\r\n{head}");
    if method == "POST" {
        request += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{JSON}", JSON.len());
    } else {
        request += "\r\n";
    }
    request.into_bytes()
}

// ===== impl Clients =====

impl Clients {
    pub(crate) fn new(addr: SocketAddr) -> io::Result<Self> {
        let control = TcpStream::connect(addr)?;
        control.set_nodelay(true)?;
        control.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            addr,
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            connections: Vec::new(),
            addresses: 0,
            control: Control(control),
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    pub(crate) fn control(&mut self) -> &mut Control {
        &mut self.control
    }

    /// Connects until there are `len`; each new one sends `request`, and `served` is called for each batch.
    pub(crate) fn connect(
        &mut self,
        len: usize,
        request: &[u8],
        mut served: impl FnMut(&mut Self, usize) -> io::Result<()>,
    ) -> io::Result<()> {
        while self.len() < len {
            let batch = CONNECT_BATCH.min(len - self.len());
            for _ in 0..batch {
                self.connect_one()?;
                let new = self.len() - 1;
                self.send(new, request)?;
            }
            served(self, batch)?;
        }
        Ok(())
    }

    fn connect_one(&mut self) -> io::Result<()> {
        let index = self.len();
        let socket = self.bind()?;
        socket.connect(&self.addr.into())?;
        socket.set_tcp_nodelay(true)?;
        // Closed with a reset, so that no port is held back for the next server.
        socket.set_linger(Some(Duration::ZERO))?;
        socket.set_nonblocking(true)?;
        let mut stream = mio::net::TcpStream::from_std(socket.into());
        self.poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
        self.connections.push(Connection { stream, partial: Vec::new() });
        Ok(())
    }

    /// A socket with an address of its own, of one after another of the loopback network.
    fn bind(&mut self) -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        for host in HOSTS.skip(self.addresses / PORTS.len()) {
            for port in PORTS.skip(self.addresses % PORTS.len()) {
                self.addresses += 1;
                match socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), port)).into()) {
                    // Somebody else's.
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                    bound => return bound.map(|()| socket),
                }
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    fn send(&mut self, index: usize, request: &[u8]) -> io::Result<()> {
        // A request is far smaller than an empty send buffer, so that it is never cut.
        self.connections[index].stream.write_all(request)
    }

    /// Sends `request` on every connection.
    pub(crate) fn send_all(&mut self, request: &[u8]) -> io::Result<()> {
        (0..self.len()).try_for_each(|index| self.send(index, request))
    }

    /// Reads `count` answers, on whichever connections they come.
    pub(crate) fn receive(&mut self, count: usize) -> io::Result<()> {
        self.receive_each(count, |_, _| Ok(()))
    }

    /// Sends `count` requests in all, on each connection the next when it has the answer to the last.
    pub(crate) fn exchange(&mut self, count: usize, request: &[u8]) -> io::Result<()> {
        let mut left = count - self.len();
        self.send_all(request)?;
        self.receive_each(count, |this, index| {
            if left == 0 {
                return Ok(());
            }
            left -= 1;
            this.send(index, request)
        })
    }

    fn receive_each(
        &mut self,
        count: usize,
        mut received: impl FnMut(&mut Self, usize) -> io::Result<()>,
    ) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut left = count;
        let mut ready = Vec::new();
        while left > 0 {
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("{left} of {count} answers have not come")));
            }
            self.poll.poll(&mut self.events, Some(Duration::ZERO))?;
            if self.events.is_empty() {
                thread::sleep(PAUSE);
            }
            ready.extend(self.events.iter().map(|event| event.token().0));
            for index in ready.drain(..) {
                if self.connections[index].read_response()? {
                    left = left.checked_sub(1).ok_or_else(|| io::Error::other("more answers than requests"))?;
                    received(self, index)?;
                }
            }
        }
        Ok(())
    }
}

// ===== impl Connection =====

impl Connection {
    /// Reads what there is. True when an answer is whole.
    fn read_response(&mut self) -> io::Result<bool> {
        let mut buf = [0; 4096];
        // One read is enough: it is shorter than the buffer, and then the next event comes with the next byte.
        let read = match self.stream.read(&mut buf) {
            Ok(0) => return Err(io::Error::other("the server has closed a connection")),
            Ok(read) => &buf[..read],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        if self.partial.is_empty() && response_len(read)? == Some(read.len()) {
            return Ok(true);
        }
        self.partial.extend_from_slice(read);
        match response_len(&self.partial)? {
            Some(len) if len == self.partial.len() => {
                self.partial = Vec::new();
                Ok(true)
            }
            Some(len) if len < self.partial.len() => Err(io::Error::other("an answer is too long")),
            Some(_) | None => Ok(false),
        }
    }
}

// ===== impl Control =====

impl Control {
    /// Asks and returns the answer's body.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<String> {
        self.send(path)?;
        self.receive()
    }

    pub(crate) fn send(&mut self, path: &str) -> io::Result<()> {
        self.0.write_all(&request("GET", path, head::SHORT))
    }

    pub(crate) fn receive(&mut self) -> io::Result<String> {
        let mut answer = Vec::new();
        let mut buf = [0; 4096];
        loop {
            let read = self.0.read(&mut buf)?;
            answer.extend_from_slice(&buf[..read]);
            if read == 0 || response_len(&answer)?.is_some_and(|len| len <= answer.len()) {
                let text = String::from_utf8_lossy(&answer);
                return Ok(text.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned());
            }
        }
    }

    /// Waits until `count` requests are parked.
    pub(crate) fn wait_parked(&mut self, count: usize) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let parked = self.get("/count")?;
            if parked == count.to_string() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("{parked} are parked instead of {count}")));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The length of the response that `bytes` begin with, once its head is whole. It must be `200 OK`.
fn response_len(bytes: &[u8]) -> io::Result<Option<usize>> {
    const LENGTH: &[u8] = b"content-length: ";
    let Some(head_len) = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4) else {
        return Ok(None);
    };
    let head = &bytes[..head_len];
    let refused = || io::Error::other(format!("not an answer: {}", String::from_utf8_lossy(head)));
    if !head.starts_with(b"HTTP/1.1 200 OK\r\n") {
        return Err(refused());
    }
    let length = head.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(LENGTH)).ok_or_else(refused)?;
    let length = std::str::from_utf8(length).ok().and_then(|length| length.trim().parse::<usize>().ok());
    Ok(Some(head_len + length.ok_or_else(refused)?))
}

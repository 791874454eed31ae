//! A blocking client: bytes out, bytes in.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::PATIENCE;

pub struct Client {
    stream: BufReader<TcpStream>,
}

/// The head of a response, as it came.
#[derive(Debug)]
pub struct Head {
    pub status: u16,
    pub fields: Vec<(String, String)>,
}

// ===== impl Client =====

impl Client {
    pub fn connect(addr: SocketAddr) -> Self {
        Self::from(TcpStream::connect(addr).unwrap())
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.stream.get_ref().local_addr().unwrap()
    }

    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// The same to a server that may have closed.
    pub fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    pub fn get(&mut self, path: &str) {
        self.write(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
    }

    /// Asks and reads the whole response; the connection is idle afterwards.
    pub fn round_trip(&mut self, path: &str) -> (Head, Vec<u8>) {
        self.get(path);
        let head = self.read_head();
        let body = self.read_body(&head);
        (head, body)
    }

    /// The body of a `200`.
    pub fn text(&mut self, path: &str) -> String {
        let (head, body) = self.round_trip(path);
        assert_eq!(head.status, 200);
        String::from_utf8(body).unwrap()
    }

    pub fn read_line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        assert!(line.ends_with("\r\n"), "the connection ended in the middle of a line: {line:?}");
        line.truncate(line.len() - 2);
        line
    }

    pub fn read_head(&mut self) -> Head {
        let status = self.read_line();
        let mut fields = Vec::new();
        loop {
            let line = self.read_line();
            let Some((name, value)) = line.split_once(": ") else { break };
            fields.push((name.to_owned(), value.to_owned()));
        }
        Head { status: status.split(' ').nth(1).unwrap().parse().unwrap(), fields }
    }

    pub fn read_body(&mut self, head: &Head) -> Vec<u8> {
        let length = head.field("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        body
    }

    /// A chunk's data; empty for the last one.
    pub fn read_chunk(&mut self) -> Vec<u8> {
        let size = usize::from_str_radix(&self.read_line(), 16).unwrap();
        let mut chunk = vec![0; size];
        self.stream.read_exact(&mut chunk).unwrap();
        self.read_line();
        chunk
    }

    /// What comes until the server closes.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap();
        rest
    }

    /// What comes until the server closes, or resets the connection.
    pub fn try_read_to_end(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        if let Err(error) = self.stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        rest
    }

    /// So many bytes, whatever they mean.
    pub fn read_exact(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    pub fn shutdown(&self, how: Shutdown) {
        self.stream.get_ref().shutdown(how).unwrap();
    }

    /// A client that takes from the kernel what it needs, and not more.
    pub fn unbuffered(stream: TcpStream) -> Self {
        let Self { stream } = Self::from(stream);
        Self { stream: BufReader::with_capacity(1, stream.into_inner()) }
    }

    /// Hangs up with a reset: what is in flight is dropped.
    pub fn reset(self) {
        let stream = self.stream.into_inner();
        socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }

    /// The server closes or resets the connection.
    pub fn expect_closed(&mut self) {
        match self.stream.read(&mut [0]) {
            Ok(read) => assert_eq!(read, 0, "nothing comes any more"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}

impl From<TcpStream> for Client {
    fn from(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream: BufReader::new(stream) }
    }
}

#[cfg(unix)]
impl From<std::os::unix::net::UnixStream> for Client {
    fn from(stream: std::os::unix::net::UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // A client only reads and writes, which is the same for any socket.
        let stream = TcpStream::from(std::os::fd::OwnedFd::from(stream));
        Self { stream: BufReader::new(stream) }
    }
}

// ===== impl Head =====

impl Head {
    /// The value of a field that occurs once at most.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
        let value = values.next();
        assert!(values.next().is_none(), "{name} occurs twice in {self:?}");
        value
    }
}

//! The messages of the worker protocol as frames, both ways. `docs/zeromq.md` is its specification.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Request, StatusCode, Uri};

/// A message of the protocol, as ZeroMQ carries it.
pub(super) type Frames = Vec<Bytes>;

/// Names one hand-over of one job. A job that is handed over again gets another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ticket(pub(super) u64);

/// What a worker is sent.
#[derive(Debug, PartialEq)]
pub(super) enum ToWorker {
    /// Who are you? Say `READY`.
    Who {
        frame_bytes_max: usize,
    },
    Job(Ticket, JobFrames),
    /// Nobody waits for this one any more.
    Cancel(Ticket),
    /// The client has taken a part: one more may come.
    More(Ticket),
    Ping,
    Pong,
    /// The other side is going, in an orderly way.
    Bye,
}

/// A request as a worker gets it. In frames, so that handing it over again costs no more than counting references.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct JobFrames {
    pub(super) method: Bytes,
    pub(super) uri: Bytes,
    pub(super) headers: Bytes,
    pub(super) body: Bytes,
}

/// What a worker says.
#[derive(Debug, PartialEq)]
pub(super) enum FromWorker {
    /// Nothing: the empty message with which a socket that has `ZMQ_PROBE_ROUTER` greets on each new connection.
    Probe,
    /// I take up to this many jobs at once.
    Ready {
        jobs_max: usize,
    },
    Reply(Ticket, ReplyHead, Bytes),
    Head(Ticket, ReplyHead),
    Part(Ticket, Bytes),
    End(Ticket),
    /// The job failed; the text is for the log.
    Failed(Ticket, Bytes),
    Ping,
    Pong,
    Bye,
}

#[derive(Debug, PartialEq)]
pub(super) struct ReplyHead {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
}

/// A message that is not the protocol's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) what: &'static str,
    /// The hand-over that it was about, when that much could be read.
    pub(super) ticket: Option<Ticket>,
}

const VERSION: &[u8] = b"1";

/// A header block past this is refused: no more than hyper accepts of a client by default.
const HEADERS_MAX: usize = 100;

/// Fields that belong to one connection and go no further (RFC 9110 section 7.6.1).
const CONNECTION_FIELDS: [&str; 7] =
    ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

// ===== impl ToWorker =====

impl ToWorker {
    pub(super) fn encode(self) -> Frames {
        let word = Bytes::from_static;
        match self {
            Self::Who { frame_bytes_max } => vec![word(b"WHO"), word(VERSION), number(frame_bytes_max)],
            Self::Job(ticket, JobFrames { method, uri, headers, body }) => {
                vec![word(b"JOB"), ticket.encode(), method, uri, headers, body]
            }
            Self::Cancel(ticket) => vec![word(b"CANCEL"), ticket.encode()],
            Self::More(ticket) => vec![word(b"MORE"), ticket.encode()],
            Self::Ping => vec![word(b"PING")],
            Self::Pong => vec![word(b"PONG")],
            Self::Bye => vec![word(b"BYE")],
        }
    }

    pub(super) fn decode(frames: &[Bytes]) -> Result<Self, Malformed> {
        let (verb, rest) = frames.split_first().ok_or(Malformed::new("an empty message"))?;
        match (&verb[..], rest) {
            (b"WHO", [_version, frame_bytes_max, ..]) => Ok(Self::Who {
                frame_bytes_max: parse(frame_bytes_max).ok_or(Malformed::new("a limit that is no number"))?,
            }),
            (b"JOB", [ticket, method, uri, headers, body, ..]) => {
                let [method, uri, headers, body] = [method, uri, headers, body].map(Bytes::clone);
                Ok(Self::Job(Ticket::decode(ticket)?, JobFrames { method, uri, headers, body }))
            }
            (b"CANCEL", [ticket, ..]) => Ok(Self::Cancel(Ticket::decode(ticket)?)),
            (b"MORE", [ticket, ..]) => Ok(Self::More(Ticket::decode(ticket)?)),
            (b"PING", _) => Ok(Self::Ping),
            (b"PONG", _) => Ok(Self::Pong),
            (b"BYE", _) => Ok(Self::Bye),
            _ => Err(Malformed::new("an unknown verb, or too few frames for it")),
        }
    }
}

// ===== impl JobFrames =====

impl JobFrames {
    pub(super) fn new(parts: &Parts, body: Bytes) -> Self {
        Self {
            method: Bytes::copy_from_slice(parts.method.as_str().as_bytes()),
            uri: Bytes::from(parts.uri.to_string()),
            headers: encode_headers(&parts.headers),
            body,
        }
    }

    pub(super) fn into_request(self) -> Result<Request<Bytes>, Malformed> {
        let mut request = Request::new(self.body);
        *request.method_mut() =
            Method::from_bytes(&self.method).map_err(|_| Malformed::new("a method that is none"))?;
        *request.uri_mut() = Uri::from_maybe_shared(self.uri).map_err(|_| Malformed::new("a target that is no URI"))?;
        *request.headers_mut() = decode_headers(&self.headers).ok_or(Malformed::new("header fields that are none"))?;
        Ok(request)
    }
}

// ===== impl FromWorker =====

impl FromWorker {
    pub(super) fn encode(self) -> Frames {
        let word = Bytes::from_static;
        match self {
            Self::Probe => vec![Bytes::new()],
            Self::Ready { jobs_max } => vec![word(b"READY"), number(jobs_max)],
            Self::Reply(ticket, head, body) => {
                vec![word(b"REPLY"), ticket.encode(), head.encode_status(), encode_headers(&head.headers), body]
            }
            Self::Head(ticket, head) => {
                vec![word(b"HEAD"), ticket.encode(), head.encode_status(), encode_headers(&head.headers)]
            }
            Self::Part(ticket, data) => vec![word(b"PART"), ticket.encode(), data],
            Self::End(ticket) => vec![word(b"END"), ticket.encode()],
            Self::Failed(ticket, why) => vec![word(b"ERROR"), ticket.encode(), why],
            Self::Ping => vec![word(b"PING")],
            Self::Pong => vec![word(b"PONG")],
            Self::Bye => vec![word(b"BYE")],
        }
    }

    /// Frames past those that a verb needs are ignored, so that later versions can add some.
    pub(super) fn decode(frames: &[Bytes]) -> Result<Self, Malformed> {
        let (verb, rest) = frames.split_first().ok_or(Malformed::new("an empty message"))?;
        match (&verb[..], rest) {
            (b"", []) => Ok(Self::Probe),
            (b"READY", []) => Ok(Self::Ready { jobs_max: 1 }),
            (b"READY", [jobs_max, ..]) => match parse(jobs_max) {
                Some(jobs_max) if jobs_max > 0 => Ok(Self::Ready { jobs_max }),
                _ => Err(Malformed::new("a number of jobs that is none")),
            },
            (b"REPLY", [ticket, status, headers, body, ..]) => {
                let ticket = Ticket::decode(ticket)?;
                Ok(Self::Reply(ticket, ReplyHead::decode(ticket, status, headers)?, body.clone()))
            }
            (b"HEAD", [ticket, status, headers, ..]) => {
                let ticket = Ticket::decode(ticket)?;
                Ok(Self::Head(ticket, ReplyHead::decode(ticket, status, headers)?))
            }
            (b"PART", [ticket, data, ..]) => Ok(Self::Part(Ticket::decode(ticket)?, data.clone())),
            (b"END", [ticket, ..]) => Ok(Self::End(Ticket::decode(ticket)?)),
            (b"ERROR", [ticket, why, ..]) => Ok(Self::Failed(Ticket::decode(ticket)?, why.clone())),
            (b"ERROR", [ticket]) => Ok(Self::Failed(Ticket::decode(ticket)?, Bytes::new())),
            (b"PING", _) => Ok(Self::Ping),
            (b"PONG", _) => Ok(Self::Pong),
            (b"BYE", _) => Ok(Self::Bye),
            _ => Err(Malformed {
                what: "an unknown verb, or too few frames for it",
                ticket: rest.first().and_then(|ticket| Ticket::decode(ticket).ok()),
            }),
        }
    }
}

// ===== impl ReplyHead =====

impl ReplyHead {
    fn encode_status(&self) -> Bytes {
        Bytes::copy_from_slice(self.status.as_str().as_bytes())
    }

    fn decode(ticket: Ticket, status: &[u8], headers: &[u8]) -> Result<Self, Malformed> {
        let about = |what| Malformed { what, ticket: Some(ticket) };
        let status = StatusCode::from_bytes(status).map_err(|_| about("a status that is none"))?;
        if status.is_informational() {
            return Err(about("an interim status, where the final one is wanted"));
        }
        Ok(Self { status, headers: decode_headers(headers).ok_or(about("header fields that are none"))? })
    }
}

// ===== impl Ticket =====

impl Ticket {
    /// Opaque to workers, decimal digits in fact.
    pub(super) fn encode(self) -> Bytes {
        Bytes::from(self.0.to_string())
    }

    fn decode(frame: &[u8]) -> Result<Self, Malformed> {
        parse(frame).map(Self).ok_or(Malformed::new("a ticket that was never given"))
    }
}

// ===== impl Malformed =====

impl Malformed {
    const fn new(what: &'static str) -> Self {
        Self { what, ticket: None }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

fn number(n: usize) -> Bytes {
    Bytes::from(n.to_string())
}

fn parse<T: FromStr>(frame: &[u8]) -> Option<T> {
    // `from_str` would take a sign as well.
    std::str::from_utf8(frame).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}

/// Field lines as in HTTP: `name: value`, each ended by CRLF. What belongs to the connection is left out.
fn encode_headers(headers: &HeaderMap) -> Bytes {
    let mut block = Vec::new();
    for (name, value) in headers {
        if !CONNECTION_FIELDS.contains(&name.as_str()) {
            block.extend_from_slice(name.as_str().as_bytes());
            block.extend_from_slice(b": ");
            block.extend_from_slice(value.as_bytes());
            block.extend_from_slice(b"\r\n");
        }
    }
    block.into()
}

/// Takes a bare LF for CRLF, and needs none after the last line. `None` for what is no field line.
fn decode_headers(block: &[u8]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in block.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        if CONNECTION_FIELDS.contains(&name.as_str()) {
            continue;
        }
        if headers.len() == HEADERS_MAX {
            return None;
        }
        headers.append(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> ReplyHead {
        let headers = [("x-a", "1"), ("set-cookie", "b"), ("set-cookie", "c: d")];
        let headers = headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        ReplyHead { status: StatusCode::CREATED, headers: HeaderMap::from_iter(headers) }
    }

    #[test]
    fn every_message_comes_back_from_its_frames() {
        let request = || {
            let mut request = Request::new(());
            *request.method_mut() = Method::PUT;
            *request.uri_mut() = Uri::from_static("/a?b=%20");
            *request.headers_mut() = head().headers;
            request
        };
        let job = || JobFrames::new(&request().into_parts().0, Bytes::from_static(b"\0\r\n\xff"));
        for message in [
            || ToWorker::Who { frame_bytes_max: 9 },
            || ToWorker::Cancel(Ticket(7)),
            || ToWorker::More(Ticket(u64::MAX)),
            || ToWorker::Ping,
            || ToWorker::Pong,
            || ToWorker::Bye,
        ] {
            assert_eq!(ToWorker::decode(&message().encode()), Ok(message()));
        }
        assert_eq!(ToWorker::decode(&ToWorker::Job(Ticket(1), job()).encode()), Ok(ToWorker::Job(Ticket(1), job())));
        let messages: [fn() -> FromWorker; 10] = [
            || FromWorker::Probe,
            || FromWorker::Ready { jobs_max: 3 },
            || FromWorker::Reply(Ticket(1), head(), Bytes::from_static(b"x")),
            || FromWorker::Head(Ticket(2), head()),
            || FromWorker::Part(Ticket(3), Bytes::new()),
            || FromWorker::End(Ticket(4)),
            || FromWorker::Failed(Ticket(5), Bytes::from_static(b"why")),
            || FromWorker::Ping,
            || FromWorker::Pong,
            || FromWorker::Bye,
        ];
        for message in messages {
            assert_eq!(FromWorker::decode(&message().encode()), Ok(message()));
        }
    }

    #[test]
    fn whatever_a_worker_sends_is_decoded_or_refused() {
        let refused: [(&[&[u8]], Option<u64>); 13] = [
            (&[], None),
            (&[b"HELLO"], None),
            (&[b"", b"x"], None),
            (&[b"READY", b"0"], None),
            (&[b"READY", b"-1"], None),
            (&[b"READY", b"99999999999999999999999"], None),
            (&[b"REPLY"], None),
            (&[b"REPLY", b"x", b"200", b"", b""], None),
            (&[b"REPLY", b"1", b"20", b"", b""], Some(1)),
            (&[b"REPLY", b"1", b"101", b"", b""], Some(1)),
            (&[b"REPLY", b"1", b"200", b"no field", b""], Some(1)),
            (&[b"REPLY", b"1", b"200", b"a\0: b", b""], Some(1)),
            (&[b"HEAD", b"18446744073709551615"], Some(u64::MAX)),
        ];
        for (frames, ticket) in refused {
            let frames: Vec<Bytes> = frames.iter().map(|frame| Bytes::from_static(frame)).collect();
            let malformed = FromWorker::decode(&frames).expect_err("refused");
            assert_eq!(malformed.ticket, ticket.map(Ticket), "{frames:?}");
        }
        let many = b"a: b\n".repeat(HEADERS_MAX + 1);
        assert_eq!(decode_headers(&many), None);
        assert!(decode_headers(&many[5..]).is_some());
    }

    #[test]
    fn fields_of_the_connection_go_no_further() {
        let block = b"Connection: close\nx-a: 1\r\nTRANSFER-ENCODING: chunked\n";
        let headers = decode_headers(block).unwrap();
        assert_eq!(headers.len(), 1);
        let mut headers = head().headers;
        headers.insert("upgrade", HeaderValue::from_static("h2c"));
        assert_eq!(decode_headers(&encode_headers(&headers)), Some(head().headers));
    }
}

//! Bytes that a client sends: requests, well-formed and not.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Requests one after the other, perhaps damaged somewhere.
pub fn input() -> impl Strategy<Value = Vec<u8>> {
    let requests = prop_oneof![
        6 => vec(request(), 1..4),
        2 => vec(request(), 1..21),
    ];
    let damage = prop_oneof![
        6 => Just(Vec::new()),
        1 => vec(damage(), 1..3),
    ];
    (requests, damage).prop_map(|(requests, damage)| {
        let mut bytes = requests.concat();
        for damage in damage {
            damage.apply(&mut bytes);
        }
        bytes
    })
}

#[derive(Clone, Debug)]
enum Damage {
    Replace(prop::sample::Index, u8),
    Insert(prop::sample::Index, &'static [u8]),
    Remove(prop::sample::Index),
    Cut(prop::sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        (at(), select(vec![&b"\r\n"[..], b"\n", b"\r", b"\0", b" ", b":", b"GET", b"0\r\n\r\n", b"\xff"]))
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        at().prop_map(Damage::Remove),
        at().prop_map(Damage::Cut),
    ]
}

impl Damage {
    fn apply(self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Replace(at, byte) => *at.get_mut(bytes) = byte,
            Self::Insert(at, inserted) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, inserted.iter().copied());
            }
            Self::Remove(at) => drop(bytes.remove(at.index(bytes.len()))),
            Self::Cut(at) => bytes.truncate(at.index(bytes.len())),
        }
    }
}

type Header = (&'static str, String);

fn request() -> impl Strategy<Value = Vec<u8>> {
    let line_end = prop_oneof![15 => Just("\r\n"), 1 => Just("\n")];
    let before = prop_oneof![15 => Just(""), 1 => Just("\r\n"), 1 => Just("\r\n\r\n"), 1 => Just("\n")];
    let headers = (vec(header(), 0..5), prop::option::weighted(0.04, odd_header()), framing());
    (before, request_line(), headers, line_end).prop_map(
        |(before, line, (mut headers, odd, (framing, body)), line_end)| {
            headers.extend(odd);
            headers.extend(framing);
            let mut bytes = before.as_bytes().to_vec();
            bytes.extend_from_slice(line.as_bytes());
            bytes.extend_from_slice(line_end.as_bytes());
            for (name, value) in headers {
                bytes.extend_from_slice(format!("{name}: {value}{line_end}").as_bytes());
            }
            bytes.extend_from_slice(line_end.as_bytes());
            bytes.extend_from_slice(&body);
            bytes
        },
    )
}

fn request_line() -> impl Strategy<Value = String> {
    let method = prop_oneof![
        6 => Just("GET"), 6 => Just("POST"), 3 => Just("HEAD"), 1 => Just("OPTIONS"),
        1 => Just("CONNECT"), 1 => Just("PUT"), 1 => Just("BREW"), 1 => Just("get"),
    ];
    let target = prop_oneof![
        6 => Just("/"), 4 => Just("/poll?cursor=17"), 1 => Just("*"),
        1 => Just("http://host:80/a?b"), 1 => Just("host:443"), 1 => Just("/%c3%bc"),
    ];
    let version = prop_oneof![3 => Just("HTTP/1.1"), 1 => Just("HTTP/1.0")];
    let malformed = select(vec![
        "GET  / HTTP/1.1",
        "GET /",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "G@T / HTTP/1.1",
        "GET / HTTP/2.0",
        "GET / http/1.1",
        "GET no-slash HTTP/1.1",
        "PRI * HTTP/2.0",
        "",
    ]);
    let line = (method, target, version).prop_map(|(method, target, version)| format!("{method} {target} {version}"));
    prop_oneof![20 => line, 1 => malformed.prop_map(|line| line.to_owned())]
}

fn header() -> impl Strategy<Value = Header> {
    let plain = select(vec![
        ("host", "example.com"),
        ("x-empty", ""),
        ("X-Mixed-Case", "  spaces around  "),
        ("cookie", "a=b; c=d"),
        ("te", "trailers"),
        ("TE", "gzip, Trailers"),
        ("te", "gzip"),
    ]);
    let connection = select(vec![
        "close",
        "Close",
        "keep-alive",
        "Keep-Alive",
        "upgrade",
        "keep-alive, Upgrade",
        "close, keep-alive",
        "x, close",
        "keep-alive,close",
        "x",
        "",
        ",",
        "close x",
        "clos\u{e9}, close",
    ]);
    let upgrade = select(vec!["websocket", "h2c", ""]);
    prop_oneof![
        10 => plain.prop_map(|(name, value)| (name, value.to_owned())),
        6 => connection.prop_map(|value| ("Connection", value.to_owned())),
        1 => upgrade.prop_map(|value| ("upgrade", value.to_owned())),
        1 => prop_oneof![1_usize..300, 7000_usize..12_000].prop_map(|len| ("x-long", "v".repeat(len))),
    ]
}

fn odd_header() -> impl Strategy<Value = Header> {
    let odd = select(vec![
        ("folded", "a\r\n b"),
        ("not a name", "value"),
        ("x-obs-text", "\u{e9}"),
        ("", "no name"),
        ("expect", "100-continue"),
        ("Expect", "100-Continue"),
        ("expect", "miracles"),
    ]);
    odd.prop_map(|(name, value)| (name, value.to_owned()))
}

/// The headers that frame a body, and the body.
fn framing() -> impl Strategy<Value = (Vec<Header>, Vec<u8>)> {
    let none = Just((Vec::new(), Vec::new()));
    let expect = || prop::bool::weighted(0.15);
    let len = || prop_oneof![3 => 0_usize..40, 2 => 40_usize..3000, 1 => 8000_usize..30_000];
    let sized = (len(), expect()).prop_map(|(len, expect)| {
        let mut headers = vec![("Content-Length", len.to_string())];
        add_expect(&mut headers, expect);
        (headers, vec![b'x'; len])
    });
    let chunked = (chunks(), expect()).prop_map(|(body, expect)| {
        let mut headers = vec![("transfer-encoding", "chunked".to_owned())];
        add_expect(&mut headers, expect);
        (headers, body)
    });
    let both = (chunks(), any::<bool>(), 0_usize..50).prop_map(|(body, length_first, len)| {
        let length = ("content-length", len.to_string());
        let chunked = ("Transfer-Encoding", "chunked".to_owned());
        (if length_first { vec![length, chunked] } else { vec![chunked, length] }, body)
    });
    let odd = (
        select(vec![
            ("content-length", "5, 5"),
            ("content-length", "-1"),
            ("content-length", "+5"),
            ("content-length", "18446744073709551615"),
            ("transfer-encoding", "gzip"),
            ("transfer-encoding", "gzip, chunked"),
            ("transfer-encoding", "chunked, gzip"),
            ("transfer-encoding", "CHUNKED"),
        ]),
        chunks(),
    )
        .prop_map(|((name, value), body)| (vec![(name, value.to_owned())], body));
    let twice = (0_usize..20, 0_usize..20).prop_map(|(one, other)| {
        (vec![("content-length", one.to_string()), ("content-length", other.to_string())], vec![b'y'; one])
    });
    prop_oneof![12 => none, 8 => sized, 8 => chunked, 2 => both, 1 => odd, 1 => twice]
}

fn add_expect(headers: &mut Vec<Header>, expect: bool) {
    if expect {
        headers.push(("expect", "100-continue".to_owned()));
    }
}

/// A chunked body with extensions and trailers.
fn chunks() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![6 => 1_usize..40, 1 => 1000_usize..10_000];
    let extension = prop_oneof![8 => Just(""), 1 => Just(";a=b"), 1 => Just("; quoted=\"x;y\"")];
    let chunk = (len, extension, any::<bool>()).prop_map(|(len, extension, upper)| {
        let size = if upper { format!("{len:X}") } else { format!("{len:x}") };
        [format!("{size}{extension}\r\n").as_bytes(), &vec![b'c'; len][..], b"\r\n"].concat()
    });
    let end = select(vec![
        "0\r\n\r\n",
        "0\r\n\r\n",
        "0\r\n\r\n",
        "0;end\r\n\r\n",
        "0\r\nx-sum: 1\r\ny: 2\r\n\r\n",
        "000\r\n\r\n",
        "0\r\nbad trailer\r\n\r\n",
        "x\r\n",
    ]);
    (vec(chunk, 0..4), end).prop_map(|(chunks, end)| [chunks.concat(), end.as_bytes().to_vec()].concat())
}

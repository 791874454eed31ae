//! The head that is replayed for a parked request.
//!
//! A fresh hyper connection must know four things of the request that it is about to answer, and nothing else:
//! whether it was a `HEAD`, its version, whether the connection is kept afterwards, and whether trailers are welcome.

use http::header::{CONNECTION, TE};
use http::{HeaderValue, Method, Request, Version};

/// What of a request decides how its response is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head(u8);

/// What nearly every browser says, and what need not be taken apart.
const KEEP_ALIVE_ALONE: &str = "keep-alive";

const IS_HEAD: u8 = 1;
const HTTP_10: u8 = 1 << 1;
const KEEP_ALIVE: u8 = 1 << 2;
const TRAILERS: u8 = 1 << 3;

impl Head {
    /// Reads it off a request as hyper has parsed it.
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        let http_10 = request.version() == Version::HTTP_10;
        let (mut close, mut keep_alive, mut trailers) = (false, !http_10, false);
        // One walk past all headers is less work than to look for each of these.
        for (name, value) in request.headers() {
            if *name == CONNECTION && value == KEEP_ALIVE_ALONE {
                keep_alive = true;
            } else if *name == CONNECTION {
                close |= lists(value, "close");
                keep_alive |= http_10 && lists(value, "keep-alive");
            } else if *name == TE {
                trailers |= lists(value, "trailers");
            }
        }
        let bit = |bit, set| if set { bit } else { 0 };
        Self(
            bit(IS_HEAD, request.method() == Method::HEAD)
                | bit(HTTP_10, http_10)
                | bit(KEEP_ALIVE, keep_alive && !close)
                | bit(TRAILERS, trailers),
        )
    }

    /// The bytes of a request that hyper answers in the same way. No request that says the same is shorter, so that
    /// none of the limits that the client's has met are in the way.
    #[inline]
    pub(crate) fn bytes(self) -> &'static [u8] {
        // One literal for each combination, so that nothing is put together, or allocated, on the way.
        macro_rules! heads {
            ($($bits:literal => $method:literal $version:literal $connection:literal $te:literal;)*) => {
                match self.0 {
                    $($bits => concat!($method, " / HTTP/", $version, "\n", $connection, $te, "\n").as_bytes(),)*
                    _ => unreachable!("four bits have sixteen values"),
                }
            };
        }
        heads! {
            0b0000 => "G" "1.1" "connection:close\n" "";
            0b0001 => "HEAD" "1.1" "connection:close\n" "";
            0b0010 => "G" "1.0" "" "";
            0b0011 => "HEAD" "1.0" "" "";
            0b0100 => "G" "1.1" "" "";
            0b0101 => "HEAD" "1.1" "" "";
            0b0110 => "G" "1.0" "connection:keep-alive\n" "";
            0b0111 => "HEAD" "1.0" "connection:keep-alive\n" "";
            0b1000 => "G" "1.1" "connection:close\n" "te:trailers\n";
            0b1001 => "HEAD" "1.1" "connection:close\n" "te:trailers\n";
            0b1010 => "G" "1.0" "" "te:trailers\n";
            0b1011 => "HEAD" "1.0" "" "te:trailers\n";
            0b1100 => "G" "1.1" "" "te:trailers\n";
            0b1101 => "HEAD" "1.1" "" "te:trailers\n";
            0b1110 => "G" "1.0" "connection:keep-alive\n" "te:trailers\n";
            0b1111 => "HEAD" "1.0" "connection:keep-alive\n" "te:trailers\n";
        }
    }

    /// Its bits, for a cell that only holds plain numbers.
    #[inline]
    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    /// The head with these [`bits`](Self::bits).
    #[inline]
    pub(crate) fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    #[inline]
    pub(crate) fn is_http_10(self) -> bool {
        self.0 & HTTP_10 != 0
    }

    /// Whether hyper is as good as new after the answer. It goes on: at its end it would carry out an upgrade that was asked
    /// for and refused before. And it refuses a malformed head in the version of the request before, which is the one that
    /// it begins with (1.12, `Dispatcher::poll_inner` and `Server::on_error`).
    #[inline]
    pub(crate) fn leaves_no_trace(self) -> bool {
        self.0 & (KEEP_ALIVE | HTTP_10) == KEEP_ALIVE
    }
}

/// Whether a line of tokens has `token`, in any case. Like hyper 1.12 it does not look at a line that is not plain ASCII.
fn lists(line: &HeaderValue, token: &str) -> bool {
    let mut listed = line.as_bytes().split(|byte| *byte == b',');
    listed.any(|listed| listed.trim_ascii().eq_ignore_ascii_case(token.as_bytes())) && line.to_str().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(version: Version, headers: &[(&'static str, &'static str)]) -> Head {
        let mut request = Request::builder().version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Head::of(&request.body(()).unwrap())
    }

    #[test]
    fn keep_alive_depends_on_the_version() {
        assert_eq!(head(Version::HTTP_11, &[]), Head(KEEP_ALIVE));
        assert_eq!(head(Version::HTTP_11, &[("connection", "a, Close")]), Head(0));
        assert_eq!(head(Version::HTTP_10, &[]), Head(HTTP_10));
        assert_eq!(head(Version::HTTP_10, &[("connection", "Keep-Alive")]), Head(HTTP_10 | KEEP_ALIVE));
        let both = [("connection", "keep-alive"), ("connection", "close")];
        assert_eq!(head(Version::HTTP_10, &both), Head(HTTP_10));
    }

    #[test]
    fn every_combination_is_a_request() {
        for bits in 0..16 {
            let bytes = Head(bits).bytes();
            assert!(bytes.ends_with(b"\n\n"));
            assert_eq!(bytes.starts_with(b"HEAD "), bits & IS_HEAD != 0);
        }
    }
}

//! Which version the client speaks.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBuf};

/// The preface of HTTP/2 (RFC 9113 section 3.4).
const H2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    H1,
    H2,
}

/// What has come of the preface so far. Its bytes are known, so that their number is enough, and what follows them.
#[derive(Debug, Default)]
pub(super) struct Preface {
    matched: u8,
}

impl Preface {
    /// Reads until the version is known. Returns it with what has been read.
    pub(super) fn poll<I: Read + Unpin>(
        &mut self,
        io: &mut I,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Version, Vec<u8>)>> {
        loop {
            let matched = usize::from(self.matched);
            let mut room = [MaybeUninit::uninit(); H2_PREFACE.len()];
            let mut buf = ReadBuf::uninit(&mut room[matched..]);
            ready!(Pin::new(&mut *io).poll_read(cx, buf.unfilled()))?;
            let read = buf.filled();
            let expected = &H2_PREFACE[matched..matched + read.len()];
            if read.is_empty() || read != expected {
                return Poll::Ready(Ok((Version::H1, [&H2_PREFACE[..matched], read].concat())));
            }
            // At most the preface's length, which is 24.
            self.matched += read.len() as u8;
            if usize::from(self.matched) == H2_PREFACE.len() {
                return Poll::Ready(Ok((Version::H2, H2_PREFACE.to_vec())));
            }
        }
    }
}

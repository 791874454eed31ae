//! Why a socket could not be had.

use std::error::Error as StdError;
use std::fmt;

/// A ZeroMQ socket could not be made, bound or connected.
#[derive(Debug)]
pub struct Error {
    what: String,
    cause: Box<dyn StdError + Send + Sync>,
}

impl Error {
    pub(super) fn new(what: impl Into<String>, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { what: what.into(), cause: cause.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.cause)
    }
}

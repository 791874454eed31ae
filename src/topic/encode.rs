//! How messages become bytes, once for all who wait.

use bytes::Bytes;
#[cfg(feature = "json")]
use bytes::{BufMut, BytesMut};
use http::HeaderValue;

use crate::BoxError;

/// Turns the messages of a topic into bytes. Each message is encoded once, by its publisher; each body is built once and
/// shared by all who are answered with it.
pub trait Encode<T>: Send + Sync + 'static {
    /// The media type of a long poll's answer.
    fn content_type(&self) -> HeaderValue;

    /// Encodes one message. It runs in [`publish`](super::Topic::publish), which hands an error to its caller.
    ///
    /// # Errors
    ///
    /// When the value has no encoding.
    fn encode(&self, value: &T) -> Result<Bytes, BoxError>;

    /// The body of a long poll's answer from its encoded messages, of which there is at least one.
    fn join(&self, messages: &[Bytes]) -> Bytes;

    /// How many messages [`join`](Self::join) can take at once.
    fn join_count_max(&self) -> usize {
        usize::MAX
    }

    /// The name of the server-sent event that carries this message; without one a browser calls it `message`.
    fn event<'a>(&self, _value: &'a T) -> Option<&'a str> {
        None
    }
}

/// JSON: a long poll is answered with an array of the messages.
#[cfg(feature = "json")]
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

/// Bytes as they are: a long poll is answered with one message, and asks again for the next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

// ===== impl Json =====

#[cfg(feature = "json")]
impl<T: serde::Serialize> Encode<T> for Json {
    fn content_type(&self) -> HeaderValue {
        HeaderValue::from_static("application/json")
    }

    fn encode(&self, value: &T) -> Result<Bytes, BoxError> {
        Ok(serde_json::to_vec(value)?.into())
    }

    fn join(&self, messages: &[Bytes]) -> Bytes {
        let length = messages.iter().map(|message| message.len() + 1).sum::<usize>() + 1;
        let mut body = BytesMut::with_capacity(length);
        for (n, message) in messages.iter().enumerate() {
            body.put_u8(if n == 0 { b'[' } else { b',' });
            body.put_slice(message);
        }
        body.put_u8(b']');
        body.freeze()
    }
}

// ===== impl Raw =====

impl<T: AsRef<[u8]> + Clone + Into<Bytes>> Encode<T> for Raw {
    fn content_type(&self) -> HeaderValue {
        HeaderValue::from_static("application/octet-stream")
    }

    fn encode(&self, value: &T) -> Result<Bytes, BoxError> {
        Ok(value.clone().into())
    }

    fn join(&self, messages: &[Bytes]) -> Bytes {
        messages.first().cloned().unwrap_or_default()
    }

    fn join_count_max(&self) -> usize {
        1
    }
}

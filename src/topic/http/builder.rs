//! What a topic's service is made with.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;

use super::super::{Presence, PresenceKey, Topic};
use super::{Refusal, TopicService};
use crate::BoxError;
use crate::waiting::Wheel;

/// Makes a [`TopicService`].
#[must_use = "a builder makes nothing until it is told to build"]
pub struct Builder<T> {
    shared: Shared<T>,
}

/// What the requests of one service have in common.
pub(super) struct Shared<T> {
    pub(super) find: Hook<Topic<T>>,
    pub(super) authorize: Hook<()>,
    pub(super) enter: Hook<Option<Present>>,
    pub(super) wait: Duration,
    pub(super) wait_max: Duration,
    pub(super) heartbeat: Duration,
    pub(super) retry: Duration,
    pub(super) publish: Option<Publish<T>>,
    pub(super) wheel: Arc<Wheel>,
}

/// Holds a client present for as long as its request.
pub(super) type Present = Box<dyn Send + Sync>;

type Hook<R> = Box<dyn Fn(&Parts) -> Result<R, Refusal> + Send + Sync>;

type Decode<T> = Box<dyn Fn(&Parts, Bytes) -> Result<T, BoxError> + Send + Sync>;

/// How a `POST` becomes a message.
pub(super) struct Publish<T> {
    pub(super) body_bytes_max: usize,
    pub(super) decode: Decode<T>,
}

// ===== impl Builder =====

impl<T: Send + Sync + 'static> Builder<T> {
    /// Serves one topic, whatever the path.
    pub fn new(topic: Topic<T>) -> Self {
        Self::find(move |_| Ok(topic.clone()))
    }

    /// Serves the topic that `find` gives for a request, or answers what it gives instead.
    ///
    /// ```
    /// use std::time::Duration;
    /// use bytes::Bytes;
    /// use http::StatusCode;
    /// use hyper_deferred::topic::{self, Raw, http::Builder};
    ///
    /// let rooms = topic::Builder::<Bytes>::new(Raw).registry(1000, Duration::from_secs(3600));
    /// let service = Builder::find(move |request| {
    ///     let room = rooms.open(request.uri.path());
    ///     room.map_err(|full| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, full))
    /// })
    /// .build();
    /// ```
    pub fn find(find: impl Fn(&Parts) -> Result<Topic<T>, Refusal> + Send + Sync + 'static) -> Self {
        let shared = Shared {
            find: Box::new(find),
            authorize: Box::new(|_| Ok(())),
            enter: Box::new(|_| Ok(None)),
            // Below the 30 seconds and 60 seconds after which proxies commonly give up on an answer.
            wait: Duration::from_secs(25),
            wait_max: Duration::from_secs(55),
            heartbeat: Duration::from_secs(15),
            retry: Duration::from_secs(2),
            publish: None,
            wheel: Wheel::new(),
        };
        Self { shared }
    }

    /// Looks at each request before anything else is done with it; what it gives instead of `Ok` is the answer.
    pub fn authorize(mut self, authorize: impl Fn(&Parts) -> Result<(), Refusal> + Send + Sync + 'static) -> Self {
        self.shared.authorize = Box::new(authorize);
        self
    }

    /// Counts clients as [present](Presence): `who` says whom a request belongs to, if to anyone. While there are too many,
    /// others get `503`.
    pub fn presence<K: PresenceKey + Sync>(
        mut self,
        presence: Presence<K>,
        who: impl Fn(&Parts) -> Option<K> + Send + Sync + 'static,
    ) -> Self {
        self.shared.enter = Box::new(move |parts| {
            let Some(key) = who(parts) else { return Ok(None) };
            match presence.enter(key) {
                Ok(here) => Ok(Some(Box::new(here))),
                Err(full) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, full)),
            }
        });
        self
    }

    /// How long a long poll waits that does not say so itself. 25 seconds unless set.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.shared.wait = wait;
        self
    }

    /// How long a long poll may ask to wait with `Prefer: wait=N`; who asks for more gets this. 55 seconds unless set.
    pub fn wait_max(mut self, wait: Duration) -> Self {
        self.shared.wait_max = wait;
        self
    }

    /// How often a stream of events gets a comment, so that nobody between takes it for dead. 15 seconds unless set.
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.shared.heartbeat = every;
        self
    }

    /// After how long a browser comes back when its stream of events has ended. 2 seconds unless set.
    pub fn retry(mut self, after: Duration) -> Self {
        self.shared.retry = after;
        self
    }

    /// Lets clients publish with `POST`: a body of at most `body_bytes_max` bytes (`413` beyond), out of which `decode`
    /// makes the message (`400` when it cannot). Without this a `POST` gets `405`.
    pub fn publish(
        mut self,
        body_bytes_max: usize,
        decode: impl Fn(&Parts, Bytes) -> Result<T, BoxError> + Send + Sync + 'static,
    ) -> Self {
        self.shared.publish = Some(Publish { body_bytes_max, decode: Box::new(decode) });
        self
    }

    /// [`publish`](Self::publish) for bodies that are JSON.
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    pub fn publish_json(self, body_bytes_max: usize) -> Self
    where
        T: serde::de::DeserializeOwned,
    {
        self.publish(body_bytes_max, |_, body| Ok(serde_json::from_slice(&body)?))
    }

    /// The service.
    pub fn build(self) -> TopicService<T> {
        TopicService { shared: Arc::new(self.shared) }
    }
}

impl<T> fmt::Debug for Builder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("wait", &self.shared.wait)
            .field("wait_max", &self.shared.wait_max)
            .field("heartbeat", &self.shared.heartbeat)
            .field("retry", &self.shared.retry)
            .finish_non_exhaustive()
    }
}

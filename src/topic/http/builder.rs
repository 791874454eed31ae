//! What a topic's service is made with.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};

use super::super::{Presence, PresenceKey, Topic};
use super::{Refusal, TopicService, negotiate};

/// Makes a [`TopicService`].
#[must_use = "a builder makes nothing until it is told to build"]
pub struct Builder<T> {
    shared: Shared<T>,
}

/// What the requests of one service have in common.
pub(super) struct Shared<T> {
    pub(super) find: Find<T>,
    pub(super) authorize: Hook<()>,
    pub(super) enter: Hook<Option<Present>>,
    pub(super) wait: Duration,
    pub(super) wait_max: Duration,
    pub(super) heartbeat: Duration,
    pub(super) retry: Duration,
    pub(super) publish: Option<Publish<T>>,
}

/// Holds a client present for as long as its request.
pub(super) type Present = Box<dyn Send + Sync>;

/// Which topics a request gets.
pub(super) enum Find<T> {
    One(Hook<Topic<T>>),
    #[cfg(feature = "json")]
    Several(Hook<Vec<(String, Topic<T>)>>),
}

pub(super) type Hook<R> = Box<dyn Fn(&Parts) -> Result<R, Refusal> + Send + Sync>;

type Decode<T> = Box<dyn Fn(&Parts, Bytes) -> Result<T, Refusal> + Send + Sync>;

/// How a `POST` becomes a message.
pub(super) struct Publish<T> {
    pub(super) body_bytes_max: usize,
    pub(super) decode: Decode<T>,
}

// ===== impl Shared =====

impl<T> Shared<T> {
    /// How long a request waits, and the part of it that the request has asked for.
    pub(super) fn wait_of(&self, parts: &Parts) -> (Duration, Option<Duration>) {
        let asked = negotiate::prefer_wait(&parts.headers).map(|wait| wait.min(self.wait_max));
        let wait = if parts.method == Method::HEAD { Duration::ZERO } else { asked.unwrap_or(self.wait) };
        (wait, asked)
    }

    /// The topic that a request publishes to.
    pub(super) fn topic_of(&self, parts: &Parts) -> Result<Topic<T>, Refusal> {
        match &self.find {
            Find::One(find) => find(parts),
            #[cfg(feature = "json")]
            Find::Several(find) => match <[_; 1]>::try_from(find(parts)?) {
                Ok([(_, topic)]) => Ok(topic),
                Err(_) => Err(Refusal::new(StatusCode::BAD_REQUEST, "a message goes to one topic: name that alone")),
            },
        }
    }
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
    /// use hyper_deferred::topic::http::{Builder, Refusal};
    /// use hyper_deferred::topic::{self, Raw};
    ///
    /// let rooms = topic::Builder::<Bytes>::new(Raw).registry(1000, Duration::from_secs(3600));
    /// let service = Builder::find(move |request| {
    ///     let room = rooms.open(request.uri.path());
    ///     room.map_err(|full| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, full))
    /// })
    /// .build();
    /// ```
    pub fn find(find: impl Fn(&Parts) -> Result<Topic<T>, Refusal> + Send + Sync + 'static) -> Self {
        Self::with(Find::One(Box::new(find)))
    }

    /// Serves several topics with one request: those that `find` gives for it, from 1 to 64, each with the name that the
    /// answer tells it by. One combined cursor says where the client stands in all of them; it comes back with the same
    /// topics in the same order, or gets `400`.
    ///
    /// The answer to a long poll is JSON: `[{"topic":"a","messages":[…]}]` has a member for each topic with news, and beside
    /// its messages `"missed"` where there is a gap: how many, or `null` when nobody can tell. The data of an event is
    /// `{"topic":"a","message":…}`. Messages that are not JSON are text in it, in which what is not UTF-8 is replaced. A
    /// message is published when the request names one topic alone; else a `POST` gets `400`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use http::StatusCode;
    /// use hyper_deferred::topic::http::{Builder, Refusal};
    /// use hyper_deferred::topic::{self, Json};
    ///
    /// let rooms = topic::Builder::<String>::new(Json).registry(1000, Duration::from_secs(3600));
    /// // GET /?room=garden&room=kitchen
    /// let service = Builder::find_several(move |request| {
    ///     let query = request.uri.query().unwrap_or_default();
    ///     let names = query.split('&').filter_map(|pair| pair.strip_prefix("room="));
    ///     names
    ///         .map(|name| match rooms.get(name) {
    ///             Some(room) => Ok((name.to_owned(), room)),
    ///             None => Err(Refusal::new(StatusCode::NOT_FOUND, format_args!("there is no room {name}"))),
    ///         })
    ///         .collect()
    /// })
    /// .build();
    /// ```
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    pub fn find_several(
        find: impl Fn(&Parts) -> Result<Vec<(String, Topic<T>)>, Refusal> + Send + Sync + 'static,
    ) -> Self {
        Self::with(Find::Several(Box::new(find)))
    }

    fn with(find: Find<T>) -> Self {
        let shared = Shared {
            find,
            authorize: Box::new(|_| Ok(())),
            enter: Box::new(|_| Ok(None)),
            // Below the 30 seconds and 60 seconds after which proxies commonly give up on an answer.
            wait: Duration::from_secs(25),
            wait_max: Duration::from_secs(55),
            heartbeat: Duration::from_secs(15),
            retry: Duration::from_secs(2),
            publish: None,
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

    /// Lets clients publish with `POST`: a body of at most `body_bytes_max` bytes (`413` beyond) that arrives within ten
    /// seconds (`408` later), out of which `decode` makes the message, or says what to answer instead. Without this
    /// a `POST` gets `405`.
    pub fn publish(
        mut self,
        body_bytes_max: usize,
        decode: impl Fn(&Parts, Bytes) -> Result<T, Refusal> + Send + Sync + 'static,
    ) -> Self {
        self.shared.publish = Some(Publish { body_bytes_max, decode: Box::new(decode) });
        self
    }

    /// [`publish`](Self::publish) for bodies that are JSON; others get `400`.
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    pub fn publish_json(self, body_bytes_max: usize) -> Self
    where
        T: serde::de::DeserializeOwned,
    {
        self.publish(body_bytes_max, |_, body| {
            serde_json::from_slice(&body).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error))
        })
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

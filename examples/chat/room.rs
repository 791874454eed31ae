//! What is said, who is here, and what may be said.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::ACCEPT;
use hyper::http::request::Parts;
use hyper_deferred::Topic;
use hyper_deferred::topic::http::{Builder, Refusal, TopicService};
use hyper_deferred::topic::{self, Json, Presence};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const TEXT_CHARS_MAX: usize = 2_000;
const NAME_CHARS_MAX: usize = 40;

/// Room for the longest name and text, with each character written as JSON's longest escape, two times `\uXXXX`.
const BODY_BYTES_MAX: usize = (TEXT_CHARS_MAX + NAME_CHARS_MAX) * 12 + 1_024;

/// What someone who arrives gets to see, and how far behind a client may fall before it misses a message.
const HISTORY_MESSAGES_MAX: usize = 200;

/// The longest of them, all together, and so all in one answer.
const HISTORY_BYTES_MAX: usize = HISTORY_MESSAGES_MAX * BODY_BYTES_MAX;

/// How many people are here at once, so that a stream of invented names cannot fill the memory.
const PEOPLE_MAX: usize = 1_000;

/// How long someone without a request stays listed: longer than from one poll to the next on a slow network.
const AWAY_AFTER: Duration = Duration::from_secs(3);

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Room {
    messages: Topic<Message>,
    people: Presence<String>,
    pub(crate) service: TopicService<Message>,
}

#[derive(Serialize)]
pub(crate) struct Message {
    name: String,
    text: String,
    /// In milliseconds since 1970.
    at: u64,
}

// ===== impl Room =====

impl Room {
    /// Requests wait for `wait` when they do not ask for `events`, or are refused them.
    pub(crate) fn new(wait: Duration, events: bool) -> Self {
        let messages = topic::Builder::new(Json)
            .history_count_max(HISTORY_MESSAGES_MAX)
            .history_bytes_max(HISTORY_BYTES_MAX)
            .history_age_max(None)
            .batch_count_max(HISTORY_MESSAGES_MAX)
            .batch_bytes_max(HISTORY_BYTES_MAX)
            .build();
        let people = Presence::new(AWAY_AFTER, PEOPLE_MAX, |_| {});
        let service = Builder::new(messages.clone())
            .wait(wait)
            .authorize(move |request| match request.headers.get(ACCEPT) {
                Some(accept) if !events && accept == "text/event-stream" => {
                    Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, "there are no events here"))
                }
                _ => name_of(request).map(|_| ()),
            })
            .presence(people.clone(), |request| name_of(request).ok().flatten())
            .publish(BODY_BYTES_MAX, |_, body| Message::read(&body))
            .build();
        Self { messages, people, service }
    }

    /// Who is here, and how many requests are parked.
    pub(crate) fn now(&self) -> Value {
        let mut people = self.people.all();
        people.sort_unstable();
        json!({ "parked": self.messages.waiting(), "people": people })
    }
}

/// Who asks. Someone who gives no name is not listed.
fn name_of(request: &Parts) -> Result<Option<String>, Refusal> {
    let query = request.uri.query().unwrap_or_default();
    let name = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "name");
    name.map(|(_, name)| checked("name", &name, NAME_CHARS_MAX)).transpose()
}

// ===== impl Message =====

impl Message {
    fn read(body: &Bytes) -> Result<Self, Refusal> {
        // What is missing is told as what is empty.
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Said {
            name: String,
            text: String,
        }
        let said: Said = serde_json::from_slice(body)
            .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, format_args!("this is no message: {error}")))?;
        let name = checked("name", &said.name, NAME_CHARS_MAX)?;
        let text = checked("text", &said.text, TEXT_CHARS_MAX)?;
        Ok(Self { name, text, at: now_millis() })
    }
}

/// `value` without the space around it, if it is neither empty nor too long.
fn checked(field: &str, value: &str, chars_max: usize) -> Result<String, Refusal> {
    let value = value.trim();
    let why = match value.chars().count() {
        0 => format!("the {field} is empty"),
        chars if chars > chars_max => format!("the {field} has {chars} characters, at most {chars_max} are allowed"),
        _ => return Ok(value.to_owned()),
    };
    Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, why))
}

fn now_millis() -> u64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since_1970.as_millis().try_into().unwrap_or(u64::MAX)
}

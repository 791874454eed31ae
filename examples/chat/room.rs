//! Who waits, who is here, and what was said.
//!
//! Everything that happens (a message, someone coming or going) has a number, and a client always asks for what is
//! newer than the last number it saw. A parked request therefore waits for exactly the next thing to happen: the
//! answer is encoded once for all of them, and what happens between two polls of a client is found by its number.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use hyper_deferred::Responder;
use serde_json::{Value, json};

use crate::http::json_response;

/// What someone who arrives gets to see, and how far behind a client may fall before it misses a message.
const HISTORY_MESSAGES_MAX: usize = 200;

/// How many people are listed, so that a stream of invented names cannot fill the memory.
const PEOPLE_MAX: usize = 1_000;

/// How long someone without a poll stays listed: longer than from one poll to the next on a slow network.
const AWAY_AFTER: Duration = Duration::from_secs(3);

pub(crate) type SharedRoom = Rc<RefCell<Room>>;

pub(crate) struct Room {
    /// Tells this run of the server from the one before, which numbered other things.
    epoch: u64,
    /// The number of the last thing that happened.
    newest: u64,
    messages: VecDeque<Message>,
    /// The number of the last message that the history had no more room for.
    forgotten: u64,
    people: BTreeMap<String, Person>,
    people_changed: bool,
    /// The parked requests. HTTP/1 has one at a time for each connection, so the number of connections bounds it.
    parked: HashMap<u64, Responder<Full<Bytes>>>,
    next_seat: u64,
}

struct Message {
    number: u64,
    name: String,
    text: String,
    at_millis: u64,
}

struct Person {
    polls: usize,
    last_seen: Instant,
}

/// What a client has seen already.
pub(crate) struct Cursor {
    pub(crate) since: u64,
    /// The epoch that `since` belongs to; a client that does not say is taken to mean this one.
    pub(crate) epoch: Option<u64>,
}

/// One poll's place in the room, for as long as the poll lives.
///
/// A client that hangs up makes the server drop the request's future, and this with it: so a waiter has left every
/// list at once, whether its request ended with an answer or without, and whether or not anybody ever says something.
pub(crate) struct Seat {
    room: SharedRoom,
    number: u64,
    name: Option<String>,
}

// ===== impl Room =====

impl Room {
    pub(crate) fn new() -> Self {
        Self {
            epoch: now_millis(),
            newest: 0,
            messages: VecDeque::new(),
            forgotten: 0,
            people: BTreeMap::new(),
            people_changed: false,
            parked: HashMap::new(),
            next_seat: 0,
        }
    }

    pub(crate) fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Adds a message, answers everyone who waits, and returns the message's number.
    pub(crate) fn say(&mut self, name: String, text: String) -> u64 {
        if self.messages.len() == HISTORY_MESSAGES_MAX {
            self.forgotten = self.messages.pop_front().map_or(0, |message| message.number);
        }
        let number = self.newest + 1;
        self.messages.push_back(Message { number, name, text, at_millis: now_millis() });
        self.publish();
        number
    }

    /// Forgets who is away, and tells those who wait if the people here are others than before.
    pub(crate) fn tell_of_people(&mut self) {
        let before = self.people.len();
        self.people.retain(|_, person| person.polls > 0 || person.last_seen.elapsed() < AWAY_AFTER);
        if self.people_changed || self.people.len() != before {
            self.people_changed = false;
            self.publish();
        }
    }

    /// What a client that has seen `cursor` gets at once; `None` if it has seen everything and can wait.
    pub(crate) fn news(&self, cursor: &Cursor) -> Option<Bytes> {
        let of_this_run = cursor.epoch.is_none_or(|epoch| epoch == self.epoch) && cursor.since <= self.newest;
        if !of_this_run {
            return Some(self.encode(0));
        }
        (cursor.since < self.newest).then(|| self.encode(cursor.since))
    }

    /// Something has happened: whoever waits has seen all but this.
    fn publish(&mut self) {
        let seen = self.newest;
        self.newest += 1;
        let news = self.encode(seen);
        for (_, responder) in self.parked.drain() {
            // Who has just left and comes back will ask for this number again.
            let _client_has_gone = responder.send(json_response(news.clone()));
        }
    }

    fn encode(&self, since: u64) -> Bytes {
        let messages: Vec<Value> = self
            .messages
            .iter()
            .skip(self.messages.partition_point(|message| message.number <= since))
            .map(|message| {
                json!({ "id": message.number, "name": message.name, "text": message.text, "at": message.at_millis })
            })
            .collect();
        let news = json!({
            "epoch": self.epoch,
            "next": self.newest,
            "missed": since > 0 && since < self.forgotten,
            "messages": messages,
            "people": self.people.keys().collect::<Vec<_>>(),
        });
        news.to_string().into()
    }
}

// ===== impl Seat =====

impl Seat {
    /// Enters the room; someone who gives no name is not listed.
    pub(crate) fn take(room: &SharedRoom, name: Option<String>) -> Self {
        let mut inside = room.borrow_mut();
        let number = inside.next_seat;
        inside.next_seat += 1;
        let name = name.filter(|name| inside.people.len() < PEOPLE_MAX || inside.people.contains_key(name));
        if let Some(name) = &name {
            let now = Instant::now();
            let newcomer = !inside.people.contains_key(name);
            inside.people_changed |= newcomer;
            inside.people.entry(name.clone()).or_insert(Person { polls: 0, last_seen: now }).polls += 1;
        }
        Self { room: room.clone(), number, name }
    }

    /// Has `responder` answered by the next thing that happens.
    pub(crate) fn wait(&self, responder: Responder<Full<Bytes>>) {
        self.room.borrow_mut().parked.insert(self.number, responder);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut room = self.room.borrow_mut();
        room.parked.remove(&self.number);
        if let Some(person) = self.name.as_ref().and_then(|name| room.people.get_mut(name)) {
            person.polls -= 1;
            person.last_seen = Instant::now();
        }
    }
}

fn now_millis() -> u64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since_1970.as_millis().try_into().unwrap_or(u64::MAX)
}

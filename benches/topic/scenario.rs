//! What is compared, in which situation.

use std::fmt;
use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    LongPoll,
    Events,
    ManyTopics,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// A topic, behind the acceptor.
    Topic,
    /// A topic, behind plain hyper.
    TopicOnHyper,
    /// tokio's `broadcast`, behind plain hyper.
    Broadcast,
    /// tokio's `watch`, behind plain hyper.
    Watch,
    /// A bare `Deferred` behind the acceptor, which parks and is never answered: what a parked record costs.
    Deferred,
}

/// Topics of the scenario that has many.
pub(crate) const TOPICS: usize = 10_000;

impl Scenario {
    pub(crate) const ALL: [Self; 3] = [Self::LongPoll, Self::Events, Self::ManyTopics];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::LongPoll => "one topic, long polls",
            Self::Events => "one topic, server-sent events",
            Self::ManyTopics => "10,000 topics, long polls",
        }
    }

    pub(crate) fn topics(self) -> usize {
        match self {
            Self::LongPoll | Self::Events => 1,
            Self::ManyTopics => TOPICS,
        }
    }

    /// Bounded by the 20,000 files that a process may open.
    pub(crate) fn waiters(self) -> usize {
        match self {
            Self::LongPoll | Self::Events => 17_000,
            Self::ManyTopics => (0..TOPICS).map(waiters_of).sum(),
        }
    }

    /// The topic of each waiter.
    pub(crate) fn topic_of_waiters(self) -> Vec<usize> {
        match self {
            Self::LongPoll | Self::Events => vec![0; self.waiters()],
            Self::ManyTopics => (0..TOPICS).flat_map(|topic| vec![topic; waiters_of(topic)]).collect(),
        }
    }
}

/// One for half of the topics, two for a third, three for a sixth.
fn waiters_of(topic: usize) -> usize {
    [1, 1, 1, 2, 2, 3][topic % 6]
}

impl Variant {
    pub(crate) const COMPARED: [Self; 4] = [Self::Topic, Self::TopicOnHyper, Self::Broadcast, Self::Watch];
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::LongPoll => "long_poll",
            Self::Events => "events",
            Self::ManyTopics => "many_topics",
        })
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Topic => "topic",
            Self::TopicOnHyper => "topic_hyper",
            Self::Broadcast => "broadcast",
            Self::Watch => "watch",
            Self::Deferred => "deferred",
        })
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|scenario| scenario.to_string() == text).ok_or(format!("no scenario {text}"))
    }
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Topic, Self::TopicOnHyper, Self::Broadcast, Self::Watch, Self::Deferred];
        all.into_iter().find(|variant| variant.to_string() == text).ok_or(format!("no variant {text}"))
    }
}

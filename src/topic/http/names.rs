//! Several topics in one answer: what each is called, and what comes from it, as JSON.

use std::fmt;

use bytes::Bytes;

use super::super::{Batch, Gap, ManyBatch};

/// What the topics are called, as JSON.
pub(super) struct Names(Vec<String>);

/// The member of an object that tells a gap, if there is one.
pub(super) struct Missed(pub(super) Gap);

// ===== impl Names =====

impl Names {
    pub(super) fn new(names: Vec<String>) -> Self {
        Self(names.into_iter().map(|name| serde_json::Value::from(name).to_string()).collect())
    }

    /// That of topic `n`.
    pub(super) fn get(&self, n: usize) -> &str {
        &self.0[n]
    }

    /// The answer to a long poll.
    pub(super) fn write<T: 'static>(&self, news: &ManyBatch<T>) -> Bytes {
        let topics = news.batches.iter().map(|(n, batch)| {
            let messages: Vec<String> = batch.messages().iter().map(|message| json(batch, message.encoded())).collect();
            let (topic, missed, messages) = (self.get(*n), Missed(batch.gap()), messages.join(","));
            format!("{{\"topic\":{topic},{missed}\"messages\":[{messages}]}}")
        });
        format!("[{}]", topics.collect::<Vec<_>>().join(",")).into()
    }
}

// ===== impl Missed =====

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Gap::None => Ok(()),
            Gap::Missed(count) => write!(f, "\"missed\":{count},"),
            Gap::Unknown => f.write_str("\"missed\":null,"),
        }
    }
}

// ===== helpers =====

/// A message as JSON: as it is, if it is; else the text that it is taken for.
pub(super) fn json<T: 'static>(batch: &Batch<T>, encoded: &Bytes) -> String {
    let text = String::from_utf8_lossy(encoded);
    if batch.is_json() { text.into_owned() } else { serde_json::Value::from(text).to_string() }
}

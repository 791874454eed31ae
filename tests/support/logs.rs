//! What was logged.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry;

/// Keeps the level and the message of each event of this crate.
#[derive(Clone, Default)]
pub struct Logs(Arc<Mutex<Vec<(Level, String)>>>);

// ===== impl Logs =====

impl Logs {
    /// What is logged while `f` runs, on this thread.
    pub fn during<T>(f: impl FnOnce() -> T) -> (Self, T) {
        let logs = Self::default();
        let value = tracing::subscriber::with_default(registry().with(logs.clone()), f);
        (logs, value)
    }

    /// What is logged from now on, by the whole process.
    pub fn of_the_process() -> Self {
        let logs = Self::default();
        tracing::subscriber::set_global_default(registry().with(logs.clone())).unwrap();
        logs
    }

    pub fn at(&self, level: Level) -> Vec<String> {
        let events = self.0.lock().unwrap();
        events.iter().filter(|(at, _)| *at == level).map(|(_, message)| message.clone()).collect()
    }
}

impl<S: Subscriber> Layer<S> for Logs {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        struct Message(String);
        impl Visit for Message {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                if field.name() == "message" {
                    write!(self.0, "{value:?}").unwrap();
                }
            }
        }
        if event.metadata().target().starts_with("hyper_deferred") {
            let mut message = Message(String::new());
            event.record(&mut message);
            self.0.lock().unwrap().push((*event.metadata().level(), message.0));
        }
    }
}

//! What was logged, one line for each event: its span's name and fields, its message, its fields.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex, mpsc};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

/// A subscriber that writes lines into a channel.
pub(crate) fn channel() -> (impl Subscriber + Send + Sync, mpsc::Receiver<String>) {
    let (lines, received) = mpsc::channel();
    (tracing_subscriber::registry().with(Lines(Arc::new(Mutex::new(lines)))), received)
}

struct Lines(Arc<Mutex<mpsc::Sender<String>>>);

struct Text(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut text = Text(attributes.metadata().name().to_owned());
        attributes.record(&mut text);
        context.span(id).expect("it is new").extensions_mut().insert(text);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Text(String::new());
        if let Some(span) = context.event_span(event) {
            let _ = write!(line.0, "[{}]", span.extensions().get::<Text>().expect("it was put there").0);
        }
        event.record(&mut line);
        let _nobody_listens = self.0.lock().expect("nothing panics under it").send(line.0);
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

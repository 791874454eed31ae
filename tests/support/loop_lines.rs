//! What is logged of one watched loop, where several tests log to the one subscriber of the process.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, Once};

#[path = "log_lines.rs"]
mod log_lines;

static LISTENERS: Mutex<Vec<(String, Sender<String>)>> = Mutex::new(Vec::new());

/// The lines that the loop `name` causes from here on.
pub(crate) fn lines_of(name: &str) -> Receiver<String> {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        let (subscriber, logged) = log_lines::channel();
        tracing::subscriber::set_global_default(subscriber).expect("nobody else sets one");
        std::thread::spawn(move || {
            for line in logged {
                for (name, listener) in &*LISTENERS.lock().expect("nothing panics under it") {
                    if line.contains(&format!("name=\"{name}\"")) {
                        let _test_has_ended = listener.send(line.clone());
                    }
                }
            }
        });
    });
    let (listener, lines) = mpsc::channel();
    LISTENERS.lock().expect("nothing panics under it").push((name.to_owned(), listener));
    lines
}

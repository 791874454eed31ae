//! What the log says of a panic that is not let through.

use std::any::Any;

pub(super) fn log_panic(panic: &(dyn Any + Send), what: &str) {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    tracing::error!(panic = message, "{what}");
}

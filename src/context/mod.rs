//! What is known of the request in hand, found from anywhere below the service, and carried along when its work goes
//! on elsewhere.
//!
//! [`WithContext`] makes a [`Context`] for each request and has it in force while the service is called and at each
//! poll of its future. What runs later, on another thread or in another task, sees it only when it was told to:
//! [`Context::bind`] for a closure, [`InContextExt::in_context`] for a future, [`Saved::enter`] for a stretch of code.
//!
//! ```
//! use hyper_deferred::context::Context;
//! use http::{Method, Version};
//!
//! # #[derive(Clone, Debug, PartialEq)] struct Tenant(&'static str);
//! let context = Context::new(Method::GET, "/inbox".parse().unwrap(), Version::HTTP_11);
//! context.insert(Tenant("acme"));
//! let later = context.bind(|| Context::current().unwrap().get::<Tenant>());
//!
//! assert!(Context::current().is_none());
//! let seen = std::thread::spawn(later).join().unwrap();
//! assert_eq!(seen, Some(Tenant("acme")));
//! assert!(Context::current().is_none());
//! ```
//!
//! # Compared with the request's extensions, and with tokio's task-locals
//!
//! Extensions have to be handed through every function on the way. A task-local ends at the edge of its task: a callback
//! kept with a [`Responder`](crate::Responder), offloaded work and a foreign event loop are outside of it. A context is
//! in force wherever it is entered and nowhere else, because it is only ever entered by a closure or a poll that ends:
//! there is no guard to keep across an `.await`, and a panic puts the former one back too.
//!
//! # What comes along
//!
//! The [`Context`] itself, the [`tracing`] span that was current, and each thread-local and task-local that the
//! application [registers](register). Without registered ones a [`Saved`] is two words and nothing on the heap.

mod current;
mod future;
mod local;
mod saved;
mod service;
mod target;

pub use current::Context;
pub use future::{InContext, InContextExt};
pub use local::{Local, TaskLocal, ThreadLocal, register};
pub use saved::Saved;
pub use service::{ContextFuture, ContextLayer, WithContext};

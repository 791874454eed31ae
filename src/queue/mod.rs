//! Hand-out: each value goes to exactly one request that waits, the one that has waited for longest.
//!
//! ```
//! use hyper_deferred::Queue;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let jobs = Queue::new(1000);
//! jobs.push("first").unwrap();
//! jobs.push("second").unwrap();
//!
//! let taken = jobs.take().await;
//! assert_eq!(*taken, "first");
//! drop(taken); // not accepted: it goes to the next, before all that came after it
//! assert_eq!(jobs.take().await.into_inner(), "first");
//! assert_eq!(jobs.take().await.into_inner(), "second");
//! # });
//! ```
//!
//! # What a server can know
//!
//! A value that is given to a request comes back to the queue, and so to the next in line, whenever the request ends before
//! its response has been taken by the connection: [`Taken::into_body`] holds the value until then. What the server cannot
//! know is whether bytes that the kernel has accepted were read: a client that goes away at that very moment takes
//! the value along. Where that must not happen, [`lease`](Queue::lease) the value and let the client confirm it in a
//! request of its own: unconfirmed, it comes back. Nothing but a confirmation can tell a client that has read its
//! response from one that has not.
//!
//! # What happens on drop
//!
//! | dropped | what becomes of the value |
//! |---|---|
//! | [`Take`], [`Leasing`] | it leaves the line at once; a value that it was given goes to the next |
//! | [`Taken`], [`TakenBody`] before the connection took it | goes to the next |
//! | [`Lease`], neither confirmed nor [kept](Lease::keep) | goes to the next, as if the time was up |
//! | the last handle | is dropped; one who waits, has taken or leased holds a handle |

mod body;
mod builder;
mod handle;
mod lease;
mod leases;
mod line;
mod take;

pub use body::TakenBody;
pub use builder::Builder;
pub use handle::{Queue, QueueFull};
pub use lease::{Lease, Leasing};
pub use leases::{DeadLetter, LeaseExpired, LeaseId, ParseLeaseIdError};
pub use take::{Take, Taken};

//! Connection builders with hyper's names, whose connections go dormant while they wait.

pub mod conn;
pub mod graceful;

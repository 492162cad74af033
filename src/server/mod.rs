//! Sockets: accepting, reading frames, answering in order, closing in good order.
//!
//! One task per connection reads frames and begins requests in their order ([`crate::handlers::Serve::begin`]), one lets the answers ripen side by
//! side and sends them in the order of the requests. An idle connection holds two sleeping tasks and no buffer.
//!
//! Invariants: a client's bytes cost memory only once they have arrived, and all of them are charged to the budget; answers leave in the
//! order of their requests; a request that took a place runs to its end, though its client be gone; a drain lets every answer in flight leave.

mod connection;
mod inbox;
mod listener;
mod outbox;
mod shed;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use listener::{Listening, Server, ServerMetrics, Shedding};
pub use shed::When;

/// Where and how clients are served.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    pub max_connections: usize,
    /// The longest frame that is accepted, without its length.
    pub max_request_bytes: usize,
    /// Requests of one connection that are under way at the same time; beyond that it is not read.
    pub max_in_flight: usize,
    /// A connection on which nothing happens for this long is closed. A frame must also be complete within this time.
    pub idle_timeout: Duration,
    /// The longest silence inside a frame, and the longest time in which a client takes nothing of an answer.
    pub stall_timeout: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        ServerConfig {
            max_connections: 20_000,
            max_request_bytes: 100 << 20,
            max_in_flight: 512,
            idle_timeout: Duration::from_mins(10),
            stall_timeout: Duration::from_mins(1),
        }
    }
}

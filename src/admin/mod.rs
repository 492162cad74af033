//! The HTTP side for operators: `/livez`, `/readyz`, `/metrics`.
//!
//! Live means that the process answers. Ready means that it would serve a client now: metastore and store can be used and no shutdown has begun; the body
//! says what is missing.
//!
//! And, on a port of its own, the side for peers: what the cache lends to other agents.

mod http;
mod peers;

pub use http::{Admin, AdminError, Readiness};
pub use peers::PeerPort;

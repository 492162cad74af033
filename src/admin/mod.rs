//! The HTTP side for operators: `/livez`, `/readyz`, `/metrics`.
//!
//! Live means that the process answers. Ready means that it would serve a client now: metastore and store can be used and no shutdown has begun; the body
//! says what is missing.

mod http;

pub use http::{Admin, AdminError, Readiness};

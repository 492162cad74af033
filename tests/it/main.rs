//! The whole, from outside: the real binary, real clients, a real S3 protocol server and a real PostgreSQL.
#![allow(unreachable_pub, reason = "a test crate has no outside")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "from outside there is only the real clock")]

mod bad_input;
mod clients;
mod failures;
mod fencing;
mod groups;
#[path = "../support/members.rs"]
#[allow(dead_code, reason = "shared with tests/cluster")]
mod members;
mod operations;
mod peers;
#[path = "../support/process.rs"]
mod process;
mod produce_fetch;
mod racks;
mod start;
mod support;
mod topic_configs;
mod traces;

//! The whole, from outside: the real binary, real clients, a real S3 protocol server and a real PostgreSQL.
#![allow(unreachable_pub, reason = "a test crate has no outside")]

mod bad_input;
mod clients;
mod failures;
mod produce_fetch;
mod start;
mod support;

//! The bench: what a Kafka broker does per second, how long it takes, and what that costs its processes.
//!
//! It drives librdkafka, as most clients do, and shares the machine with the broker; therefore the client itself is kept
//! cheap: one thread sends, one takes the acknowledgements, payloads are slices of a prepared pool. Its words: a *target*
//! is a broker with the processes it is made of; a *scenario* is one thing to measure; a *round* runs a scenario once on
//! each target, so that with two targets the runs alternate and a noisy machine is noisy for both; a *figure* is one
//! number with its unit.

#![allow(clippy::disallowed_methods, reason = "a tool has threads of its own and only the real clock")]

mod clients;
mod connections;
mod consume;
mod latency;
mod options;
mod process;
mod produce;
mod report;
mod run;
mod target;
mod topics;

pub use clients::BenchError;
pub use options::Options;
pub use report::Report;
pub use run::run;

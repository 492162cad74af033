//! The oracle: sends records, keeps book of them, reads every log back, and judges what it read.
//!
//! It knows nothing of yaks but its port: any Kafka broker can be judged. Its words: an *attempt* is a record given to a
//! client to be sent; its *outcome* is what the client said in the end; a *history* is all attempts and all that was
//! read; an *invariant* is a rule every history must keep. [`check::check`] judges histories as plain values, so that the
//! simulation's histories are held to the same rules as those of real clients.
//!
//! A run: topics are made, producers send (each attempt stands in the [journal] before it is sent), all logs are read to
//! their high watermarks, some consumers start in the middle or share a group, and the verdict is printed. A live group reads while producers
//! still send. Faults are not the oracle's: a script (or tests/cluster) kills brokers while it runs.

#![allow(clippy::disallowed_methods, reason = "a tool has threads of its own and only the real clock")]

pub mod check;
pub mod history;
pub mod report;
pub mod workload;

#[cfg(feature = "tools")]
mod client;
#[cfg(feature = "tools")]
mod consume;
#[cfg(feature = "tools")]
mod group;
#[cfg(feature = "tools")]
pub mod journal;
#[cfg(feature = "tools")]
mod options;
#[cfg(feature = "tools")]
mod pauses;
#[cfg(feature = "tools")]
mod produce;
#[cfg(feature = "tools")]
mod progress;
#[cfg(feature = "tools")]
mod run;

#[cfg(feature = "tools")]
pub use options::{Options, parse_setting};
#[cfg(feature = "tools")]
pub use pauses::Pause;
#[cfg(feature = "tools")]
pub use run::{Failure, Run, run};

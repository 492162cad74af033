//! Gives committed batches their offsets, one round at a time over all agents.
//!
//! A round claims pending write events in order, lets [`crate::partition::decide`] decide, and stores the outcome in one transaction of the
//! metastore. Every agent runs this task; a row lock admits one. It is work-conserving: a commit here nudges it, rounds follow each other
//! while there is work, and the interval is only the safety net.
//!
//! Invariants: a round is all or nothing, so one whose connection died is simply decided again; the task holds nothing between rounds.

mod task;

pub use task::{MaterializeConfig, MaterializeParts, Materializer, OnRound, decide_by};

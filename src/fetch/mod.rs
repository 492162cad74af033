//! From offsets to bytes: plan, read, assemble, wait.
//!
//! A fetch asks the metastore where its offsets are ([`plan`](self) decides how much of each log is read), reads the ranges side by side
//! through a [`crate::store::ReadRange`], and cuts and patches the batches. If there is too little, it waits on the
//! [`Watermarks`] until rounds have brought enough, or `max_wait` is over.
//!
//! Invariants: the first batch returned holds the wanted offset or begins after it; nothing at or above the high watermark (read_committed: the last stable
//! offset) is returned; batches are whole; if any log has data, at least one batch is returned whatever the limits.

use std::time::Duration;

use bytes::Bytes;

use crate::types::{Head, Offset, TopicPartition};

/// One log's share of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchLog {
    pub log: TopicPartition,
    pub from: Offset,
    /// The client's limit for this log, in bytes; one batch is returned even if it is larger.
    pub max_bytes: u64,
}

/// A fetch over several logs, in the client's order.
#[derive(Debug, Clone)]
pub struct FetchRequest {
    pub logs: Vec<FetchLog>,
    pub max_bytes: u64,
    pub min_bytes: u64,
    pub max_wait: Duration,
}

/// Why one log gave no records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    #[error("the topic or partition does not exist")]
    UnknownLog,
    /// Below the log's start or above its end.
    #[error("offset {from} is outside {}..={}", head.log_start, head.high_watermark)]
    OffsetOutOfRange { from: Offset, head: Head },
    /// Store or metastore could not be read; a retry may help.
    #[error("{0}")]
    Unavailable(String),
    /// What was stored cannot be what was written.
    #[error("{0}")]
    Corrupt(String),
}

/// What one log gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub head: Head,
    /// Whole batches, in pieces that are to be sent one after the other; may be empty.
    pub records: Vec<Bytes>,
}

/// The answer, in the order of the request's logs.
pub type FetchResponse = Vec<Result<Fetched, FetchError>>;

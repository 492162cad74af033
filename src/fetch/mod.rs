//! From offsets to bytes: plan, read, assemble, wait.
//!
//! A fetch finds out where its offsets are (`sights`), decides how much of each log is read (`plan`), reads the ranges side by side
//! through a [`crate::store::ReadRange`], and cuts and patches the batches (`assemble`). If there is too little, it waits on the
//! [`Watermarks`] until rounds have brought enough, or `max_wait` is over. A fetch at the end of its logs costs no statement before it waits.
//!
//! Words:
//! - a *place* is a boundary between two batches of a segment, with the offset that comes next;
//! - a *share* is what one log may take of the bytes of a fetch;
//! - a log is *stalled* if it has data but its reads were too short to give any.
//!
//! Invariants: the first batch returned holds the wanted offset or begins after it; nothing at or above the high watermark (read_committed: the last stable
//! offset) is returned; batches are whole; if any log has data, at least one batch is returned whatever the limits.

mod ahead;
mod allowance;
mod assemble;
mod batches;
mod leftovers;
mod lookup;
mod plan;
mod positions;
mod reader;
mod serve;
mod sights;
#[cfg(test)]
mod testing;
mod wait;

use std::time::Duration;

use bytes::Bytes;

pub use reader::Reader;
pub use wait::{Looked, Watermarks};

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
    /// Records in these batches.
    pub record_count: u64,
    /// Ranges of objects that were read for it.
    pub ranges_read: u64,
}

impl Fetched {
    /// Length of all batches in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.records.iter().map(|piece| piece.len() as u64).sum()
    }
}

/// The answer, in the order of the request's logs.
pub type FetchResponse = Vec<Result<Fetched, FetchError>>;

/// How logs are read.
#[derive(Debug, Clone, Copy)]
pub struct FetchConfig {
    /// Bytes of one answer at most, whatever the client allows; one batch is returned even if it is larger.
    pub max_bytes: u64,
    /// Bytes that all answers hold together until they are sent; beyond, each gives one batch.
    pub memory_bytes: u64,
    /// Ranges that one fetch reads at the same time.
    pub reads_at_once: usize,
    /// Bytes behind a fetch, about, that the cache is told of in advance, if it has room for that; 0: none.
    pub read_ahead_bytes: u64,
    /// Segments that one fetch looks at, over all its logs, about.
    pub max_segments: usize,
    /// How often the metastore is asked for news of logs that are waited for, in case an announcement was lost.
    pub look_every: Duration,
}

impl FetchConfig {
    /// How far ahead each of a fetch's lagging logs is read, in bytes, where nobody else lags.
    fn ahead(&self, lagging: usize) -> u64 {
        self.read_ahead_bytes / lagging.max(1) as u64
    }
}

impl Default for FetchConfig {
    fn default() -> Self {
        FetchConfig {
            max_bytes: 50 << 20,
            memory_bytes: 512 << 20,
            reads_at_once: 16,
            read_ahead_bytes: 16 << 20,
            max_segments: 1_024,
            look_every: Duration::from_millis(500),
        }
    }
}

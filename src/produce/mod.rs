//! From validated batches to durable, numbered ones.
//!
//! [`Producer::submit`] takes a place for batches in the open buffer and returns at once; each batch gets a ticket, which is
//! settled when its fate is known. Buffers are sealed by size, by age or, with an interval of zero, whenever an upload slot is free; several upload
//! at the same time, but their write events are committed strictly in the order of sealing.
//!
//! Invariants: a batch submitted earlier on one agent is committed earlier; no ticket is settled as appended before the
//! object is stored and its event committed; a buffer that fails takes nothing with it but its own tickets, and what idempotent producers sent after them.

mod buffer;
mod chains;
mod commit;
mod movement;
mod producer;
mod tickets;
mod upload;

use std::time::Duration;

pub use producer::{Keep, ProduceParts, Producer};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::partition::RejectReason;
use crate::types::{BatchSummary, Offset, TopicPartition};

/// When a ticket is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// When the materializer has given its verdict: with the real offset.
    Verdict,
    /// When object and event are durable: without an offset (the opt-in *deferred* mode).
    Durable,
}

/// A batch that passed validation.
#[derive(Debug, Clone)]
pub struct NewBatch {
    pub log: TopicPartition,
    pub summary: BatchSummary,
    /// The whole batch, as it is to be stored; its base offset is not yet meaningful.
    pub bytes: Bytes,
    pub wait: Wait,
}

/// The fate of a batch that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is in the log at this offset (a duplicate at its original one).
    At(Offset),
    /// It is durable and will get an offset.
    Durable,
}

/// Why a batch is not in the log, or not known to be.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProduceError {
    /// By the rules of the log.
    #[error("the log refused the batch: {0:?}")]
    Rejected(RejectReason),
    /// The store is full.
    #[error("{0}")]
    StoreFull(String),
    /// Store or metastore did not take it in time; it may come to light later. A retry may help.
    #[error("{0}")]
    Unavailable(String),
    /// The agent is shutting down.
    #[error("the agent is shutting down")]
    ShuttingDown,
}

/// The promise of a batch's fate. An error of the receiver itself means that the agent is going down.
pub type Ticket = oneshot::Receiver<Result<Appended, ProduceError>>;

/// How buffers are sealed and written.
#[derive(Debug, Clone, Copy)]
pub struct ProduceConfig {
    /// Zero: work-conserving.
    pub flush_interval: Duration,
    pub flush_bytes: u64,
    /// Bytes gathered and not yet stored, at most. What clients wait for is charged to the server's budget; this limit holds for batches whose clients
    /// have given up waiting, while the store is slow.
    pub max_bytes: u64,
    /// Buffers that upload at the same time, at most.
    pub uploads: usize,
    /// After this long a put is tried a second time beside the first.
    pub hedge_after: Duration,
    /// How long a buffer's put and commit are tried, waiting for their turn included, before its tickets fail.
    pub give_up_after: Duration,
}

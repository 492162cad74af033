//! The rules of one log, as pure code: which offsets batches get, which are duplicates, out of order or fenced.
//!
//! [`decide()`] takes a [`Snapshot`] (pending events in order, parked batches, the states they touch, the time) and gives
//! [`Decisions`]; a metastore runs it inside one transaction and stores the result. Two databases cannot disagree, because
//! neither decides.
//!
//! Words:
//! - *accepted*: the batch has offsets. *Duplicate*: it was accepted before. *Rejected*: it never will be.
//! - *parked*: a batch of an idempotent producer came ahead of its predecessors, which may still arrive from another agent;
//!   it waits, outside the log, until they do or its deadline passes.
//!
//! Invariants: offsets of a log are contiguous; a head never goes back; each batch gets exactly one final verdict; events
//! are decided in the order given; of one producer, batches are accepted in the order of their sequences.

mod decide;
mod producers;
mod trim;
mod verdict;

pub use decide::{Touched, decide, touched};
pub use producers::{Admission, ProducerState, RECENT_BATCHES, RecentBatch, admit};
pub use trim::{TrimRefused, TrimTo, trim};
pub use verdict::{BatchVerdict, ObjectVerdict, RejectReason, VerdictError};

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::types::{BatchSummary, Head, ObjectId, ProducerId, Run, Segment, Timestamp, TopicPartition};

/// A write event as a round reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingEvent {
    pub object: ObjectId,
    pub object_bytes: u64,
    /// The runs of its object; an error if the stored list cannot be read (the event is then set aside, the others go on).
    pub runs: Result<Vec<Run>, String>,
}

/// A batch that waits for its predecessors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParkedBatch {
    pub log: TopicPartition,
    pub object: ObjectId,
    /// Which run of the object, and which batch of the run.
    pub run: u32,
    pub batch: u32,
    /// Where the batch starts in the object.
    pub start: u64,
    pub summary: BatchSummary,
    /// When waiting ends, by the metastore's clock.
    pub deadline: Timestamp,
}

/// The key of a producer's state: states are kept per log.
pub type ProducerKey = (TopicPartition, ProducerId);

/// What a round knows when it decides.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// In the order in which they were committed.
    pub events: Vec<PendingEvent>,
    /// All parked batches of the logs touched, and all that are due, whatever their log; oldest first.
    pub parked: Vec<ParkedBatch>,
    /// The verdicts so far of objects that have a batch in `parked`.
    pub parked_verdicts: HashMap<ObjectId, ObjectVerdict>,
    /// Heads of the logs touched. Absent: the topic or partition does not exist (any more).
    pub heads: HashMap<TopicPartition, Head>,
    /// States of the producers touched; absent: not known.
    pub producers: HashMap<ProducerKey, ProducerState>,
    /// By the metastore's clock.
    pub now: Timestamp,
}

/// Limits that rules need.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// How long a batch waits for its predecessors.
    pub park_for: Duration,
    /// Parked batches of one log at most; one more is rejected at once.
    pub max_parked: usize,
}

/// What a round changes. Every event of the snapshot counts as taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decisions {
    pub segments: Vec<Segment>,
    /// The new head of every log that changed.
    pub heads: BTreeMap<TopicPartition, Head>,
    pub producers: Vec<(ProducerKey, ProducerState)>,
    /// Of every object of `events` that could be read, and of objects whose parked batches were settled.
    pub verdicts: Vec<(ObjectId, ObjectVerdict)>,
    /// To be stored.
    pub park: Vec<ParkedBatch>,
    /// To be removed from the parked: object, run, batch.
    pub unpark: Vec<(ObjectId, u32, u32)>,
    /// Objects whose event could not be read, with the reason: to be set aside for a human.
    pub set_aside: Vec<(ObjectId, String)>,
}

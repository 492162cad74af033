//! What every metastore does the same way before and after a decision.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;

use super::{MetaError, Result, RoundReport};
use crate::partition::{Decisions, ObjectVerdict, ParkedBatch, PendingEvent};
use crate::records::object::{decode_index, encode_index};
use crate::types::{ObjectId, Run, Timestamp};

/// Packed indexes taken by one round at most, in bytes, unless a single event is larger. It bounds memory, and the time
/// a round holds the lock: about 100,000 runs.
pub(super) const INDEX_BYTES: u64 = 4 << 20;

/// The events a round took, and how it found them.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken {
    pub(super) events: Vec<PendingEvent>,
    /// When the oldest was inserted.
    pub(super) oldest: Option<Timestamp>,
    /// Some were left.
    pub(super) more: bool,
}

impl Taken {
    pub(super) fn objects(&self) -> BTreeSet<ObjectId> {
        self.events.iter().map(|e| e.object).collect()
    }
}

/// An event as `decide` wants it. What cannot be read is for `decide` to set aside.
pub(super) fn pending_event(object: ObjectId, object_bytes: u64, index: &[u8]) -> PendingEvent {
    PendingEvent { object, object_bytes, runs: decode_index(index).map_err(|e| e.to_string()) }
}

/// A parked batch as bytes: an object index with one run of one batch.
pub(super) fn encode_parked(parked: &ParkedBatch) -> Bytes {
    encode_index(&[Run { log: parked.log, start: parked.start, batches: vec![parked.summary] }])
}

/// Reads back what [`encode_parked`] wrote.
pub(super) fn decode_parked(object: ObjectId, run: u32, batch: u32, deadline: Timestamp, body: &[u8]) -> Result<ParkedBatch> {
    let unreadable = |why: String| MetaError::Corrupt(format!("parked batch {batch} of run {run} of object {object}: {why}"));
    let runs = decode_index(body).map_err(|e| unreadable(e.to_string()))?;
    match runs.as_slice() {
        [Run { log, start, batches }] => match batches.as_slice() {
            [summary] => Ok(ParkedBatch { log: *log, object, run, batch, start: *start, summary: *summary, deadline }),
            several => Err(unreadable(format!("it counts {} batches", several.len()))),
        },
        several => Err(unreadable(format!("it counts {} runs", several.len()))),
    }
}

/// Reads a stored verdict.
pub(super) fn decode_verdict(object: ObjectId, bytes: &[u8]) -> Result<ObjectVerdict> {
    ObjectVerdict::decode(bytes).map_err(|e| MetaError::Corrupt(format!("object {object}: {e}")))
}

/// Reads the verdicts of objects with parked batches, each perhaps named several times.
pub(super) fn decode_verdicts(rows: impl IntoIterator<Item = (ObjectId, Vec<u8>)>) -> Result<HashMap<ObjectId, ObjectVerdict>> {
    rows.into_iter().map(|(object, bytes)| Ok((object, decode_verdict(object, &bytes)?))).collect()
}

/// How long from `now` until `deadline`.
pub(super) fn due_in(deadline: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    deadline.map(|at| Duration::from_millis(u64::try_from(at.0.saturating_sub(now.0)).unwrap_or(0)))
}

/// What the round tells its caller. `next_deadline` is the earliest one of what is still parked.
pub(super) fn report(taken: &Taken, now: Timestamp, decisions: Decisions, next_deadline: Option<Timestamp>) -> RoundReport {
    RoundReport {
        events: taken.events.len(),
        more: taken.more,
        segments: decisions.segments,
        heads: decisions.heads.into_iter().collect(),
        verdicts: decisions.verdicts,
        next_due: due_in(next_deadline, now),
        oldest_event_age: due_in(Some(now), taken.oldest.unwrap_or(now)).filter(|_| taken.oldest.is_some()),
    }
}

/// One report of two rounds, one right after the other.
pub(super) fn together(first: RoundReport, second: RoundReport) -> RoundReport {
    let heads: BTreeMap<_, _> = first.heads.into_iter().chain(second.heads).collect();
    RoundReport {
        events: first.events + second.events,
        more: second.more,
        segments: first.segments.into_iter().chain(second.segments).collect(),
        heads: heads.into_iter().collect(),
        verdicts: first.verdicts.into_iter().chain(second.verdicts).collect(),
        next_due: first.next_due.into_iter().chain(second.next_due).min(),
        oldest_event_age: first.oldest_event_age.max(second.oldest_event_age),
    }
}

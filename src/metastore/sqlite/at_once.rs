//! Appending and deciding in one transaction.
//!
//! Where one process has the log for itself, an event need not wait in a table for the next round: what a round would decide is decided while the event
//! is appended, by the same rule, and stored by the same statement. That is one sync of the file instead of two. What is unusual (events that wait,
//! parked batches, a repeated append) goes the usual way: appended first, decided by a round. What the rule needs to know of the logs and producers that
//! were written last is remembered, so that most appends are a single call to SQLite.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sqlx::SqliteConnection;

use super::errors::committing;
use super::round::snapshot;
use super::round_store::store_fresh;
use crate::metastore::round::{INDEX_BYTES, Taken, pending_event, report, together};
use crate::metastore::{Decide, MetaError, Result, RoundReport, WriteEvent};
use crate::partition::{Decisions, ProducerKey, ProducerState, Snapshot, Touched, touched};
use crate::types::{Head, ObjectId, Timestamp, TopicPartition};

/// Heads and producers that are remembered at most.
const REMEMBERED: usize = 10_000;

/// The rule, and what was decided by it and not told yet.
pub(super) struct AtOnce {
    decide: Decide,
    /// As they are in the file. Whoever else gets the writing connection may change them, and clears it ([`AtOnce::forget`]).
    memory: Mutex<Memory>,
    /// No event waits and nothing is parked: true only after a round has seen it. Changed by the holder of the writing connection alone.
    settled: AtomicBool,
    /// For the next round.
    untold: Mutex<Option<RoundReport>>,
}

#[derive(Debug, Default)]
struct Memory {
    heads: HashMap<TopicPartition, Head>,
    /// `None`: the log does not know the producer.
    producers: HashMap<ProducerKey, Option<ProducerState>>,
}

impl Memory {
    /// Fills in what `touched` names; false, and nothing is filled in, if some of it is not remembered.
    fn recall(&self, touched: &Touched, snapshot: &mut Snapshot) -> bool {
        let heads: Option<HashMap<_, _>> = touched.logs.iter().map(|log| Some((*log, *self.heads.get(log)?))).collect();
        let producers: Option<Vec<_>> = touched.producers.iter().map(|key| Some((*key, self.producers.get(key)?.clone()))).collect();
        let (Some(heads), Some(producers)) = (heads, producers) else { return false };
        snapshot.heads = heads;
        snapshot.producers = producers.into_iter().filter_map(|(key, state)| Some((key, state?))).collect();
        true
    }

    /// Takes note of what was found in the file.
    fn note(&mut self, touched: &Touched, snapshot: &Snapshot) {
        if self.heads.len() + self.producers.len() + touched.logs.len() + touched.producers.len() > REMEMBERED {
            *self = Memory::default();
        }
        self.heads.extend(&snapshot.heads);
        self.producers.extend(touched.producers.iter().map(|key| (*key, snapshot.producers.get(key).cloned())));
    }

    /// Takes note of what was decided and stored. All of it was touched, and is remembered already.
    fn update(&mut self, decisions: &Decisions) {
        self.heads.extend(&decisions.heads);
        self.producers.extend(decisions.producers.iter().map(|(key, state)| (*key, Some(state.clone()))));
    }
}

impl std::fmt::Debug for AtOnce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AtOnce").field("settled", &self.settled).finish_non_exhaustive()
    }
}

impl AtOnce {
    pub(super) fn new(decide: Decide) -> AtOnce {
        AtOnce { decide, memory: Mutex::default(), settled: AtomicBool::new(false), untold: Mutex::default() }
    }

    /// Forgets heads and producers: to be called for everyone else who gets the writing connection.
    pub(super) fn forget(&self) {
        *self.memory() = Memory::default();
    }

    /// What was decided since the last round, for the round that comes now.
    pub(super) fn tell(&self) -> Option<RoundReport> {
        self.untold().take()
    }

    /// Whether events wait or batches are parked, as a round or an append has found.
    pub(super) fn set_settled(&self, settled: bool) {
        self.settled.store(settled, Ordering::Release);
    }

    /// Appends the events and decides them, all or none; false, and nothing has happened, where it takes a round.
    pub(super) async fn append(&self, connection: &mut SqliteConnection, events: &[WriteEvent], now: Timestamp) -> Result<bool> {
        let bytes: u64 = events.iter().map(|event| event.index.len() as u64).sum();
        if !self.settled.load(Ordering::Acquire) || bytes > INDEX_BYTES {
            return Ok(false);
        }
        let objects: BTreeSet<ObjectId> = events.iter().map(|event| event.object).collect();
        if objects.len() < events.len() {
            return Ok(false);
        }
        let pending = events.iter().map(|event| pending_event(event.object, event.object_bytes, &event.index)).collect();
        let taken = Taken { events: pending, oldest: Some(now), more: false };
        let decisions = (self.decide)(self.snapshot(connection, &taken, now).await?);
        if !decisions.set_aside.is_empty() {
            return Ok(false);
        }
        // Until it is stored nobody knows what is in the file, also if this is dropped meanwhile.
        let mut memory = std::mem::take(&mut *self.memory());
        match store_fresh(connection, events, &decisions, now).await.map_err(committing) {
            Ok(()) => {}
            // One of them is there already.
            Err(MetaError::Refused(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
        memory.update(&decisions);
        *self.memory() = memory;
        let due = decisions.park.iter().map(|parked| parked.deadline).min();
        self.set_settled(due.is_none());
        let report = report(&taken, now, decisions, due);
        let mut untold = self.untold();
        *untold = Some(match untold.take() {
            Some(before) => together(before, report),
            None => report,
        });
        Ok(true)
    }

    /// What the rule needs to know: from memory, if all of it is there.
    async fn snapshot(&self, connection: &mut SqliteConnection, taken: &Taken, now: Timestamp) -> Result<Snapshot> {
        let touched = touched(&taken.events, &[]);
        let mut remembered = Snapshot { events: taken.events.clone(), now, ..Snapshot::default() };
        if self.memory().recall(&touched, &mut remembered) {
            return Ok(remembered);
        }
        let found = snapshot(connection, taken, false, now).await?;
        self.memory().note(&touched, &found);
        Ok(found)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn untold(&self) -> MutexGuard<'_, Option<RoundReport>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "at_once_tests.rs"]
mod tests;

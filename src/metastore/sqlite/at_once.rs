//! Appending and deciding in one transaction.
//!
//! Where one process has the log for itself, an event need not wait in a table for the next round: what a round would decide is decided while the event
//! is appended, by the same rule, and stored by the same statement. That is one sync of the file instead of two. What is unusual (events that wait,
//! parked batches, a repeated append) goes the usual way: appended first, decided by a round.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sqlx::SqliteConnection;

use super::errors::committing;
use super::round::snapshot;
use super::round_store::store_fresh;
use crate::metastore::round::{INDEX_BYTES, Taken, pending_event, report, together};
use crate::metastore::{Decide, MetaError, Result, RoundReport, WriteEvent};
use crate::types::{ObjectId, Timestamp};

/// The rule, and what was decided by it and not told yet.
pub(super) struct AtOnce {
    decide: Decide,
    /// No event waits and nothing is parked: true only after a round has seen it. Changed by the holder of the writing connection alone.
    settled: AtomicBool,
    /// For the next round.
    untold: Mutex<Option<RoundReport>>,
}

impl std::fmt::Debug for AtOnce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AtOnce").field("settled", &self.settled).finish_non_exhaustive()
    }
}

impl AtOnce {
    pub(super) fn new(decide: Decide) -> AtOnce {
        AtOnce { decide, settled: AtomicBool::new(false), untold: Mutex::default() }
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
        let decisions = (self.decide)(snapshot(connection, &taken, false, now).await?);
        if !decisions.set_aside.is_empty() {
            return Ok(false);
        }
        match store_fresh(connection, events, &decisions, now).await.map_err(committing) {
            Ok(()) => {}
            // One of them is there already.
            Err(MetaError::Refused(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
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

    fn untold(&self) -> MutexGuard<'_, Option<RoundReport>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "at_once_tests.rs"]
mod tests;

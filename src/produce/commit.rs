//! Commits write events in the order of sealing, those that are ready together in one statement.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use super::ProduceError;
use super::chains::Chains;
use super::movement::Movement;
use super::tickets::Unsettled;
use crate::metastore::{Identity, Log, MetaError, WriteEvent};
use crate::metrics::{BufferMetrics, Flush, Status};
use crate::store::StoreError;
use crate::tasks::Nudge;
use crate::traces::Span;
use crate::types::ObjectId;

/// Events in one statement, at most.
const GROUP_MAX: usize = 64;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A sealed buffer on its way.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) object: ObjectId,
    pub(super) sealed_at: Instant,
    /// When its producers are told to try again.
    pub(super) give_up_at: Instant,
    /// Ends when the event is committed.
    pub(super) flush: Span,
    pub(super) upload: oneshot::Receiver<Result<Stored, StoreError>>,
}

/// A sealed buffer whose object is durable.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) event: WriteEvent,
    pub(super) bytes: u64,
    pub(super) records: u64,
    /// An object that goes with its event keeps the place of an upload until that is committed: meanwhile others gather instead of becoming an object each.
    /// It is the place it was sealed with: one taken later might be held by an object that is committed after this one.
    pub(super) _slot: Option<OwnedSemaphorePermit>,
}

/// A durable object whose event is to be committed.
#[derive(Debug)]
struct Ready {
    stored: Stored,
    flush: Span,
    sealed_at: Instant,
    give_up_at: Instant,
}

/// Whether something is down: an outage is a line when it begins and one when it ends, not one a buffer.
#[derive(Debug, Default)]
pub(super) struct Outage(AtomicBool);

impl Outage {
    fn begins(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }

    fn ends(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

#[derive(Debug)]
pub(super) struct Committer {
    pub(super) log: Arc<dyn Log>,
    pub(super) me: Identity,
    pub(super) unsettled: Arc<Unsettled>,
    pub(super) movement: Arc<Movement>,
    /// Their oldest buffers are those of the group that is being made ready, and then the next in order.
    pub(super) chains: Arc<Mutex<Chains>>,
    pub(super) metrics: BufferMetrics,
    /// Wakes the materializer.
    pub(super) committed: Nudge,
    pub(super) of_store: Outage,
    pub(super) of_metastore: Outage,
}

impl Committer {
    /// Runs until the sealing end of the queue is dropped and everything in it is done.
    pub(super) async fn run(self, mut queue: mpsc::Receiver<InFlight>) {
        let mut waiting: VecDeque<InFlight> = VecDeque::new();
        loop {
            while waiting.len() < GROUP_MAX
                && let Ok(next) = queue.try_recv()
            {
                waiting.push_back(next);
            }
            let Some(head) = next_in_order(&mut waiting, &mut queue).await else { return };
            let mut group = Vec::new();
            self.take(head, &mut group).await;
            while group.len() < GROUP_MAX && self.take_if_ready(&mut waiting, &mut group) {}
            if !group.is_empty() {
                self.commit(group).await;
            }
        }
    }

    /// Waits for the upload; a failed one fails its tickets, and what follows any of its batches.
    async fn take(&self, mut head: InFlight, group: &mut Vec<Ready>) {
        let result = (&mut head.upload).await;
        self.sort(&head, result.unwrap_or_else(|_| Err(gone())), group);
    }

    fn take_if_ready(&self, waiting: &mut VecDeque<InFlight>, group: &mut Vec<Ready>) -> bool {
        let ready = waiting.front_mut().map(|next| next.upload.try_recv());
        let result = match ready {
            Some(Ok(result)) => result,
            Some(Err(oneshot::error::TryRecvError::Closed)) => Err(gone()),
            Some(Err(oneshot::error::TryRecvError::Empty)) | None => return false,
        };
        if let Some(head) = waiting.pop_front() {
            self.sort(&head, result, group);
        }
        true
    }

    fn sort(&self, head: &InFlight, result: Result<Stored, StoreError>, group: &mut Vec<Ready>) {
        match result {
            Ok(_) if self.chains().is_doomed(group.len()) => {
                let error = ProduceError::Unavailable("what a producer sent before could not be stored".to_owned());
                tracing::warn!(object = %head.object, "a buffer holds what follows a lost batch and is not committed; its producers are told to try again");
                head.flush.fail(&error);
                self.metrics.flushed(Flush::AfterLoss, head.sealed_at.elapsed());
                self.lose(head.object, group.len(), &error);
            }
            Ok(stored) => {
                // One that came with its event says nothing of the store.
                if stored.event.inlined.is_none() && self.of_store.ends() {
                    tracing::info!("buffers can be stored again");
                }
                let flush = head.flush.clone();
                group.push(Ready { stored, flush, sealed_at: head.sealed_at, give_up_at: head.give_up_at });
            }
            Err(error) => {
                if self.of_store.begins() {
                    tracing::error!(object = %head.object, %error, "buffers cannot be stored; their producers are told to try again");
                }
                head.flush.fail(&error);
                self.metrics.flushed(Flush::S3Error, head.sealed_at.elapsed());
                self.lose(head.object, group.len(), &from_store(error));
            }
        }
    }

    /// What it holds counts as lost before its producers hear of it: what they send then is judged by that.
    fn lose(&self, object: ObjectId, before: usize, error: &ProduceError) {
        self.chains().lost(before);
        self.unsettled.fail(object, error);
        self.movement.gave_up();
    }

    fn chains(&self) -> MutexGuard<'_, Chains> {
        self.chains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn commit(&self, group: Vec<Ready>) {
        let mut events: Vec<WriteEvent> = group.iter().map(|ready| ready.stored.event.clone()).collect();
        let began = Instant::now();
        let give_up_at = group.iter().map(|ready| ready.give_up_at).max().unwrap_or(began);
        let spans: Vec<Span> = group.iter().map(|ready| ready.flush.child("commit")).filter(Span::is_live).collect();
        let result = self.append(&mut events, give_up_at).await;
        for span in spans {
            span.ended(&result);
        }
        self.metrics.committed(Status::of(&result), began.elapsed());
        if result.is_ok() {
            self.chains().committed(group.len());
        }
        for Ready { stored, flush, sealed_at, .. } in group {
            let object = stored.event.object;
            match &result {
                Ok(()) => {
                    self.metrics.flushed(Flush::Success, sealed_at.elapsed());
                    self.metrics.event(stored.bytes, stored.records);
                    self.unsettled.durable(object, flush.child("materialize"));
                    self.movement.got_through();
                }
                Err(error) => {
                    flush.fail(error);
                    self.metrics.flushed(Flush::DbError, sealed_at.elapsed());
                    self.lose(object, 0, &from_metastore(error));
                }
            }
        }
        match result {
            Ok(()) => {
                if self.of_metastore.ends() {
                    tracing::info!("write events can be committed again");
                }
                self.committed.nudge();
            }
            Err(error) if self.of_metastore.begins() => {
                tracing::error!(%error, events = events.len(), "write events cannot be committed; their producers are told to try again");
            }
            Err(error) => tracing::debug!(%error, events = events.len(), "write events cannot be committed"),
        }
    }

    /// Tries, once at least, until the events are committed or it is time to give up. An event that is already there is not inserted twice, so
    /// an unknown outcome is settled by looking, then trying again.
    async fn append(&self, events: &mut [WriteEvent], give_up_at: Instant) -> Result<(), MetaError> {
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.append_once(events).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let worth_another = match error {
                MetaError::Unavailable(_) | MetaError::Indeterminate(_) => true,
                MetaError::Full(_) | MetaError::Schema(_) | MetaError::Refused(_) | MetaError::Corrupt(_) => false,
            };
            if !worth_another || Instant::now() + pause >= give_up_at {
                return Err(error);
            }
            tracing::warn!(%error, "write events were not committed and are tried again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Events are written under the id that this agent has now, and only if it has one: it may have lost its lease since it took the records. If
    /// another agent has it by then, the metastore refuses.
    async fn append_once(&self, events: &mut [WriteEvent]) -> Result<(), MetaError> {
        let Some(me) = self.me.acting() else {
            return Err(MetaError::Unavailable("this agent has lost the lease of its node id".to_owned()));
        };
        for event in &mut *events {
            event.node = me.node;
        }
        let Err(error) = self.log.append(events, me.instance).await else { return Ok(()) };
        if !error.may_have_happened() {
            return Err(error);
        }
        let objects: Vec<ObjectId> = events.iter().map(|e| e.object).collect();
        let found = self.log.find_events(&objects).await?;
        if found.len() == objects.len() { Ok(()) } else { Err(error) }
    }
}

async fn next_in_order(waiting: &mut VecDeque<InFlight>, queue: &mut mpsc::Receiver<InFlight>) -> Option<InFlight> {
    match waiting.pop_front() {
        Some(next) => Some(next),
        None => queue.recv().await,
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable("the upload ended without a result".to_owned())
}

fn from_metastore(error: &MetaError) -> ProduceError {
    match error {
        MetaError::Full(_) => ProduceError::StoreFull(error.to_string()),
        MetaError::Unavailable(_) | MetaError::Indeterminate(_) | MetaError::Schema(_) | MetaError::Refused(_) | MetaError::Corrupt(_) => {
            ProduceError::Unavailable(error.to_string())
        }
    }
}

fn from_store(error: StoreError) -> ProduceError {
    match error {
        StoreError::Full(_) => ProduceError::StoreFull(error.to_string()),
        StoreError::NotFound(_) | StoreError::OutOfRange { .. } | StoreError::Refused(_) | StoreError::Unavailable(_) => {
            ProduceError::Unavailable(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_begins_and_ends_once() {
        let outage = Outage::default();
        assert_eq!([outage.ends(), outage.begins(), outage.begins(), outage.ends(), outage.ends()], [false, true, false, true, false]);
    }
}

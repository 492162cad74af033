//! The door of the room and the task that seals.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::buffer::{Buffer, SealRule};
use super::commit::{Committer, InFlight, Stored};
use super::tickets::{Stub, Unsettled, stubs_of};
use super::{NewBatch, ProduceConfig, ProduceError, Ticket, upload};
use crate::clock::Ids;
use crate::metastore::{Log, MetaError, WriteEvent};
use crate::metrics::BufferMetrics;
use crate::partition::ObjectVerdict;
use crate::records::object::pack;
use crate::store::{ObjectBody, ObjectStore, StoreError};
use crate::tasks::{Nudge, Tasks};
use crate::types::{NodeId, ObjectId};

/// Told of every object this agent stored, before its event is committed: the cache keeps it for consumers at the tail.
pub type Keep = Arc<dyn Fn(ObjectId, ObjectBody) -> BoxFuture<'static, ()> + Send + Sync>;

/// What the room needs from the others.
#[derive(Clone)]
pub struct ProduceParts {
    pub store: Arc<dyn ObjectStore>,
    pub log: Arc<dyn Log>,
    pub ids: Arc<dyn Ids>,
    pub node: NodeId,
    pub metrics: BufferMetrics,
    pub keep: Keep,
    /// Nudged after every commit: wakes the materializer.
    pub committed: Nudge,
}

impl std::fmt::Debug for ProduceParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProduceParts").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Takes batches, gives tickets.
#[derive(Debug)]
pub struct Producer {
    parts: ProduceParts,
    config: ProduceConfig,
    gathering: Mutex<Gathering>,
    /// Something was added, or gathering ends.
    changed: Notify,
    unsettled: Arc<Unsettled>,
    tasks: Tasks,
}

#[derive(Debug, Default)]
struct Gathering {
    /// Full ones that wait for an upload slot, oldest first.
    full: VecDeque<Buffer<Stub>>,
    open: Buffer<Stub>,
    /// When the first batch of `open` came.
    opened_at: Option<Instant>,
    /// Seal at once: the agent is going down.
    hurry: bool,
    /// Take nothing more; the sealing task ends when all is written.
    closed: bool,
}

impl Producer {
    /// Starts the sealing and the committing task in `tasks`.
    #[must_use]
    pub fn start(config: ProduceConfig, parts: ProduceParts, tasks: &Tasks) -> Arc<Producer> {
        let unsettled = Arc::new(Unsettled::default());
        let producer = Arc::new(Producer {
            config,
            gathering: Mutex::default(),
            changed: Notify::new(),
            unsettled: Arc::clone(&unsettled),
            tasks: tasks.clone(),
            parts,
        });
        let (to_commit, queue) = mpsc::channel(config.uploads.max(1) * 2);
        let parts = &producer.parts;
        let committer = Committer {
            log: Arc::clone(&parts.log),
            unsettled,
            config,
            metrics: parts.metrics.clone(),
            committed: parts.committed.clone(),
        };
        tasks.spawn("commit", committer.run(queue));
        tasks.spawn("seal", Arc::clone(&producer).seal_all(to_commit));
        producer
    }

    /// Takes a place for each batch, in this order, and returns their tickets in the same order. Never waits.
    pub fn submit(&self, batches: Vec<NewBatch>) -> Vec<Ticket> {
        let mut gathering = self.lock();
        let tickets = batches.into_iter().map(|batch| gathering.add(batch, self.config.flush_bytes)).collect();
        drop(gathering);
        self.changed.notify_one();
        tickets
    }

    /// Verdicts of a round, of whichever objects.
    pub fn decide(&self, verdicts: &[(ObjectId, ObjectVerdict)]) {
        self.unsettled.decide(verdicts);
    }

    /// True while a committed batch waits for its verdict.
    #[must_use]
    pub fn awaits_verdicts(&self) -> bool {
        !self.unsettled.is_empty()
    }

    /// Looks up the verdicts of everything unsettled: after another agent's round, or because an announcement may have been lost.
    ///
    /// # Errors
    /// Those of the metastore; nothing is settled then.
    pub async fn look_for_verdicts(&self) -> Result<(), MetaError> {
        let objects = self.unsettled.objects();
        if objects.is_empty() {
            return Ok(());
        }
        let verdicts = self.parts.log.verdicts(&objects).await?;
        self.unsettled.decide(&verdicts);
        Ok(())
    }

    /// From now on everything is sealed at once.
    pub fn hurry(&self) {
        self.lock().hurry = true;
        self.changed.notify_one();
    }

    /// Takes nothing more, writes what is there, and waits until every ticket is settled, at most `deadline`. False if some are not.
    pub async fn close(&self, deadline: Duration) -> bool {
        {
            let mut gathering = self.lock();
            gathering.hurry = true;
            gathering.closed = true;
        }
        self.changed.notify_one();
        let written = async {
            let stopped = self.tasks.stop(deadline).await;
            self.unsettled.empty().await;
            stopped
        };
        tokio::time::timeout(deadline, written).await.unwrap_or(false)
    }

    async fn seal_all(self: Arc<Self>, to_commit: mpsc::Sender<InFlight>) {
        let slots = Arc::new(Semaphore::new(self.config.uploads.max(1)));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let Some(buffer) = self.next_sealed().await else { return };
            let object = self.parts.ids.object();
            let (done, upload) = oneshot::channel();
            let sealed_at = Instant::now();
            let mut groups = buffer.groups;
            self.unsettled.expect(object, stubs_of(&mut groups));
            if to_commit.send(InFlight { object, sealed_at, upload }).await.is_err() {
                self.unsettled.fail(object, &ProduceError::ShuttingDown);
                return;
            }
            let sealed = SealedGroups { groups, bytes: buffer.bytes, records: buffer.records };
            let producer = Arc::clone(&self);
            self.tasks.spawn("upload", async move {
                let _slot = slot;
                let result = producer.upload(object, sealed).await;
                // The committer lives as long as any upload does.
                let _ = done.send(result);
            });
        }
    }

    async fn upload(&self, object: ObjectId, sealed: SealedGroups) -> Result<Stored, StoreError> {
        let packed = pack(sealed.groups.into_iter().map(|group| (group.log, group.batches)).collect());
        let body = ObjectBody::new(packed.pieces);
        let metrics = &self.parts.metrics;
        metrics.upload_began();
        let result = upload::put(&self.parts.store, object, &body, &self.config, metrics).await;
        metrics.upload_ended();
        result?;
        let event = WriteEvent { object, node: self.parts.node, object_bytes: body.len(), index: packed.index };
        (self.parts.keep)(object, body).await;
        Ok(Stored { event, bytes: sealed.bytes, records: sealed.records })
    }

    /// Waits until a buffer is due; `None` when closed and empty.
    async fn next_sealed(&self) -> Option<SealedGroups> {
        let rule = SealRule { flush_bytes: self.config.flush_bytes, flush_interval: self.config.flush_interval };
        loop {
            let wait = match self.lock().take_due(rule) {
                Due::Now(buffer) => return Some(SealedGroups::from(buffer)),
                Due::In(patience) => Some(patience),
                Due::Nothing => None,
                Due::Never => return None,
            };
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Gathering> {
        self.gathering.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct SealedGroups {
    groups: Vec<super::buffer::Group<Stub>>,
    bytes: u64,
    records: u64,
}

impl From<Buffer<Stub>> for SealedGroups {
    fn from(buffer: Buffer<Stub>) -> Self {
        SealedGroups { bytes: buffer.bytes(), records: buffer.records(), groups: buffer.into_groups() }
    }
}

enum Due {
    Now(Buffer<Stub>),
    In(Duration),
    Nothing,
    /// Nothing, and nothing will come.
    Never,
}

impl Gathering {
    fn add(&mut self, batch: NewBatch, flush_bytes: u64) -> Ticket {
        let (answer, ticket) = oneshot::channel();
        let stub = Stub { wait: batch.wait, answer };
        if self.closed {
            stub.settle(Err(ProduceError::ShuttingDown));
            return ticket;
        }
        self.opened_at.get_or_insert_with(Instant::now);
        self.open.add(batch.log, batch.summary, batch.bytes, stub);
        if self.open.bytes() >= flush_bytes {
            self.full.push_back(std::mem::take(&mut self.open));
            self.opened_at = None;
        }
        ticket
    }

    fn take_due(&mut self, rule: SealRule) -> Due {
        if let Some(buffer) = self.full.pop_front() {
            return Due::Now(buffer);
        }
        let Some(opened_at) = self.opened_at else {
            return if self.closed { Due::Never } else { Due::Nothing };
        };
        let patience = if self.hurry { Duration::ZERO } else { rule.patience(self.open.bytes(), opened_at.elapsed()) };
        if !patience.is_zero() {
            return Due::In(patience);
        }
        self.opened_at = None;
        Due::Now(std::mem::take(&mut self.open))
    }
}

#[cfg(test)]
#[path = "producer_tests.rs"]
mod tests;

//! The door of the room and the task that seals.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::buffer::{Buffer, Group, SealRule};
use super::chains::Chains;
use super::commit::{Committer, InFlight, Outage, Stored};
use super::movement::Movement;
use super::tickets::{Stub, Unsettled, stubs_of};
use super::upload::{self, Patience};
use super::{NewBatch, ProduceConfig, ProduceError, Ticket};
use crate::clock::Ids;
use crate::metastore::{Identity, Log, MetaError, WriteEvent};
use crate::metrics::BufferMetrics;
use crate::partition::{ObjectVerdict, RejectReason};
use crate::records::object::pack;
use crate::store::{ObjectBody, ObjectStore, StoreError};
use crate::tasks::{Nudge, Tasks};
use crate::traces::{Span, Traces, Waits};
use crate::types::ObjectId;

/// Told of every object this agent stored, before its event is committed: the cache keeps it for consumers at the tail.
pub type Keep = Arc<dyn Fn(ObjectId, ObjectBody) -> BoxFuture<'static, ()> + Send + Sync>;

/// What the room needs from the others.
#[derive(Clone)]
pub struct ProduceParts {
    pub store: Arc<dyn ObjectStore>,
    pub log: Arc<dyn Log>,
    pub ids: Arc<dyn Ids>,
    pub me: Identity,
    pub metrics: BufferMetrics,
    pub traces: Traces,
    pub keep: Keep,
    /// Nudged after every commit: wakes the materializer.
    pub committed: Nudge,
}

impl std::fmt::Debug for ProduceParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProduceParts").field("me", &self.me).finish_non_exhaustive()
    }
}

/// Takes batches, gives tickets.
#[derive(Debug)]
pub struct Producer {
    parts: ProduceParts,
    config: ProduceConfig,
    gathering: Mutex<Gathering>,
    /// Of what is gathered and what is in flight. Locked inside `gathering`, if both are.
    chains: Arc<Mutex<Chains>>,
    /// Something was added, or gathering ends.
    changed: Notify,
    unsettled: Arc<Unsettled>,
    movement: Arc<Movement>,
    tasks: Tasks,
}

#[derive(Debug, Default)]
struct Gathering {
    /// Full ones that wait for an upload slot, oldest first.
    full: VecDeque<Sealed>,
    open: Buffer<Stub>,
    /// The traced requests whose batches are in `open`.
    waits: Waits,
    /// When the first batch of `open` came.
    opened_at: Option<Instant>,
    /// Bytes of everything that was taken and is not stored yet: in buffers and in uploads.
    held: u64,
    /// Seal at once: the agent is going down.
    hurry: bool,
    /// Take nothing more; the sealing task ends when all is written.
    closed: bool,
}

impl Producer {
    /// Starts the sealing and the committing task in `tasks`.
    #[must_use]
    pub fn start(config: ProduceConfig, parts: ProduceParts, tasks: &Tasks) -> Arc<Producer> {
        let (unsettled, movement) = (Arc::new(Unsettled::new(parts.metrics.clone())), Arc::new(Movement::default()));
        let chains = Arc::<Mutex<Chains>>::default();
        let producer = Arc::new(Producer {
            config,
            gathering: Mutex::default(),
            chains: Arc::clone(&chains),
            changed: Notify::new(),
            unsettled: Arc::clone(&unsettled),
            movement: Arc::clone(&movement),
            tasks: tasks.clone(),
            parts,
        });
        let (to_commit, queue) = mpsc::channel(config.uploads.max(1) * 2);
        let parts = &producer.parts;
        let committer = Committer {
            log: Arc::clone(&parts.log),
            me: parts.me.clone(),
            unsettled,
            movement,
            chains,
            metrics: parts.metrics.clone(),
            committed: parts.committed.clone(),
            of_store: Outage::default(),
            of_metastore: Outage::default(),
        };
        tasks.spawn("commit", committer.run(queue));
        tasks.spawn("seal", Arc::clone(&producer).seal_all(to_commit));
        producer
    }

    /// Takes a place for each batch, in this order, and returns their tickets in the same order. Never waits.
    pub fn submit(&self, batches: Vec<NewBatch>) -> Vec<Ticket> {
        let request = self.parts.traces.current();
        let (mut gathering, mut chains) = (self.lock(), self.chains());
        let tickets = batches.into_iter().map(|batch| gathering.add(batch, &self.config, &request, &mut chains)).collect();
        drop((gathering, chains));
        self.changed.notify_one();
        tickets
    }

    /// Verdicts of a round, of whichever objects.
    pub fn decide(&self, verdicts: &[(ObjectId, ObjectVerdict)]) {
        self.unsettled.decide(verdicts);
    }

    /// A round of this agent took `took` and brought these verdicts: part of the traces of their objects.
    pub fn trace_round(&self, verdicts: &[(ObjectId, ObjectVerdict)], took: Duration) {
        self.parts.traces.round(&self.unsettled.traced(verdicts), took, verdicts.len());
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

    /// For how long uploads and commits have not moved, if something waits for them.
    #[must_use]
    pub fn stalled(&self) -> Option<Duration> {
        self.movement.stalled()
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
            let Some(mut sealed) = self.next_sealed().await else { return };
            let object = self.parts.ids.object().made_by(self.parts.me.agent().node);
            let (done, upload) = oneshot::channel();
            let give_up_at = sealed.opened_at + self.config.flush_interval + self.config.give_up_after;
            self.unsettled.expect(object, stubs_of(&mut sealed.groups), sealed.flush.place());
            let flush = sealed.flush.clone();
            self.movement.began();
            if to_commit.send(InFlight { object, sealed_at: Instant::now(), give_up_at, flush, upload }).await.is_err() {
                self.unsettled.fail(object, &ProduceError::ShuttingDown);
                self.movement.gave_up();
                return;
            }
            let producer = Arc::clone(&self);
            let mut upload = Box::pin(async move {
                let result = producer.upload(object, sealed, give_up_at, slot).await;
                // The committer lives as long as any upload does.
                let _ = done.send(result);
            });
            // What goes with its event waits for nothing: a task of its own would be the greater part of the work.
            if poll_fn(|context| Poll::Ready(upload.as_mut().poll(context))).await.is_pending() {
                self.tasks.spawn("upload", upload);
            }
        }
    }

    async fn upload(
        &self,
        object: ObjectId,
        sealed: Sealed,
        give_up_at: Instant,
        slot: OwnedSemaphorePermit,
    ) -> Result<Stored, StoreError> {
        let packed = pack(sealed.groups.into_iter().map(|group| (group.log, group.batches)).collect());
        let body = ObjectBody::new(packed.pieces);
        let small = body.len() <= self.parts.log.inline_max();
        let stored = if small { Ok(()) } else { self.put(object, &body, &sealed.flush, give_up_at).await };
        self.lock().held -= sealed.bytes;
        stored?;
        let inlined = small.then(|| Bytes::from(body.pieces().concat()));
        let event = WriteEvent { object, node: self.parts.me.agent().node, object_bytes: body.len(), index: packed.index, inlined };
        (self.parts.keep)(object, body).await;
        Ok(Stored { event, bytes: sealed.bytes, records: sealed.records, _slot: small.then_some(slot) })
    }

    async fn put(&self, object: ObjectId, body: &ObjectBody, flush: &Span, give_up_at: Instant) -> Result<(), StoreError> {
        let metrics = &self.parts.metrics;
        metrics.upload_began();
        let span = flush.child("put");
        let patience = Patience { hedge_after: self.config.hedge_after, give_up_at };
        let result = upload::put(&self.parts.store, object, body, patience, metrics).await;
        metrics.upload_ended();
        span.ended(&result);
        result
    }

    /// Waits until a buffer is due; `None` when closed and empty.
    async fn next_sealed(&self) -> Option<Sealed> {
        let rule = SealRule { flush_bytes: self.config.flush_bytes, flush_interval: self.config.flush_interval };
        loop {
            let wait = match self.take_due(rule) {
                Due::Now(sealed) => return Some(sealed),
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

    fn take_due(&self, rule: SealRule) -> Due {
        let mut gathering = self.lock();
        gathering.take_due(rule, &mut self.chains())
    }

    fn chains(&self) -> std::sync::MutexGuard<'_, Chains> {
        self.chains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Gathering> {
        self.gathering.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer to which nothing is added any more.
#[derive(Debug)]
struct Sealed {
    /// When its first batch came.
    opened_at: Instant,
    flush: Span,
    groups: Vec<Group<Stub>>,
    bytes: u64,
    records: u64,
}

enum Due {
    Now(Sealed),
    In(Duration),
    Nothing,
    /// Nothing, and nothing will come.
    Never,
}

impl Gathering {
    fn add(&mut self, batch: NewBatch, config: &ProduceConfig, request: &Span, chains: &mut Chains) -> Ticket {
        let (answer, ticket) = oneshot::channel();
        let stub = Stub { wait: batch.wait, answer };
        let stamp = batch.summary.producer;
        if let Some(refusal) = self.refusal(batch.bytes.len() as u64, config) {
            if let Some(stamp) = stamp {
                chains.lose(batch.log, stamp);
            }
            stub.settle(Err(refusal));
            return ticket;
        }
        if let Some(opened_at) = self.opened_at.filter(|_| chains.open_is_doomed()) {
            let doomed = self.seal(opened_at, chains);
            self.full.push_back(doomed);
        }
        if !stamp.is_none_or(|stamp| chains.take(batch.log, stamp)) {
            stub.settle(Err(ProduceError::Rejected(RejectReason::MissingPredecessor)));
            return ticket;
        }
        self.held += batch.bytes.len() as u64;
        let opened_at = *self.opened_at.get_or_insert_with(Instant::now);
        self.open.add(batch.log, batch.summary, batch.bytes, stub);
        self.waits.join(request);
        if self.open.bytes() >= config.flush_bytes {
            let full = self.seal(opened_at, chains);
            self.full.push_back(full);
        }
        ticket
    }

    /// Why `more` bytes cannot be taken, if they cannot. A single batch always fits, however large.
    fn refusal(&self, more: u64, config: &ProduceConfig) -> Option<ProduceError> {
        if self.closed {
            Some(ProduceError::ShuttingDown)
        } else if self.held > 0 && self.held + more > config.max_bytes {
            Some(ProduceError::Unavailable("the store is slow and the buffers are full".to_owned()))
        } else {
            None
        }
    }

    fn take_due(&mut self, rule: SealRule, chains: &mut Chains) -> Due {
        if let Some(sealed) = self.full.pop_front() {
            return Due::Now(sealed);
        }
        let Some(opened_at) = self.opened_at else {
            return if self.closed { Due::Never } else { Due::Nothing };
        };
        let patience = if self.hurry { Duration::ZERO } else { rule.patience(self.open.bytes(), opened_at.elapsed()) };
        if !patience.is_zero() {
            return Due::In(patience);
        }
        Due::Now(self.seal(opened_at, chains))
    }

    fn seal(&mut self, opened_at: Instant, chains: &mut Chains) -> Sealed {
        self.opened_at = None;
        chains.seal();
        let open = std::mem::take(&mut self.open);
        let flush = std::mem::take(&mut self.waits).sealed();
        flush.note("yaks.bytes", open.bytes());
        flush.note("yaks.records", open.records());
        Sealed { opened_at, flush, bytes: open.bytes(), records: open.records(), groups: open.into_groups() }
    }
}

#[cfg(test)]
#[path = "producer_tests.rs"]
mod tests;

//! What can go wrong between an agent and the two seams, beyond what the flaky wrappers do: pauses, late commits, rounds that take their time,
//! announcements that are lost. And sabotage, to prove that the judges see it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use yaks::clock::Ids as _;
use yaks::metastore::flaky::{Flaky, Odds as MetaOdds, Operation};
use yaks::metastore::{
    Agent as Registered, Beat, Change, Changes, CommittedOffset, Creation, Decide, GroupChange, GroupLabel, GroupRow, GroupSweep,
    GroupVersion, Groups, GroupsSwept, LeaseOutcome, Leases, Log, LogView, MetaError, Metastore, Offsets, Result, Round, RoundLimits,
    SegmentQuery, Topic, TopicQuery, Topics, WriteEvent,
};
use yaks::partition::{BatchVerdict, Decisions, ObjectVerdict};
use yaks::store::flaky::{Chances, FlakyStore};
use yaks::store::{Listed, ObjectBody, ObjectStore, ReadRange, StoreError};
use yaks::tasks::Tasks;
use yaks::types::{ByteRange, GroupId, Head, NodeId, ObjectId, Offset, ProducerId, Segment, Timestamp, TopicId, TopicName, TopicPartition};

use crate::agent::Agent;
use crate::world::{Dice, World};

/// How often things go wrong by chance, in thousandths.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Odds {
    /// Errors, before and after, of either seam.
    pub(crate) errors: u64,
    pub(crate) delays: u64,
    pub(crate) longest: Duration,
    pub(crate) hangs: u64,
    /// Commits that come to light after their writer was told that nobody knows.
    pub(crate) late: u64,
    /// Announcements that are lost.
    pub(crate) lost: u64,
    /// Rounds that take a while.
    pub(crate) slow_rounds: u64,
}

impl Odds {
    pub(crate) fn from(dice: &Dice) -> Odds {
        let one_of = |odds: &[u64]| *dice.pick(odds);
        Odds {
            errors: one_of(&[0, 0, 5, 30, 150]),
            delays: one_of(&[0, 20, 200, 500]),
            longest: Duration::from_millis(one_of(&[20, 300, 3_000])),
            hangs: one_of(&[0, 0, 0, 20]),
            late: one_of(&[0, 0, 10, 60]),
            lost: one_of(&[0, 0, 100, 1_000]),
            slow_rounds: one_of(&[0, 100, 500]),
        }
    }

    pub(crate) fn apply(&self, agent: &Agent) {
        let (errors, delays) = (self.errors as u16, self.delays as u16);
        let meta = MetaOdds { before: errors, after: errors, delay: delays, max_delay: self.longest };
        for operation in [Operation::Append, Operation::Round, Operation::Change, Operation::Look] {
            agent.flaky.set_odds(operation, meta);
        }
        agent.store.set_chances(Chances {
            error_before: self.errors,
            error_after: self.errors,
            delay: self.delays,
            longest_delay: self.longest,
            hang: self.hangs,
        });
        agent.link.set_odds(*self);
    }
}

/// What is done wrong on purpose, now and then: each must be noticed by a judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Sabotage {
    #[default]
    None,
    /// A round hands out an offset that was handed out before.
    OffsetTwice,
    /// A round knows nothing of idempotent producers.
    ForgottenProducers,
    /// A round forgets whom it parked.
    ForgottenParked,
    /// A round takes batches of idempotent producers as they come.
    NobodyIdempotent,
    /// A commit is confirmed and did not happen.
    CommitLost,
    /// A commit is confirmed and happens behind later ones.
    CommitOutOfOrder,
    /// An event is committed twice, under two names.
    CommitTwice,
    /// Nobody looks whether a commit of unknown outcome happened: it counts as done.
    BlindFaith,
    /// A put is confirmed and did not happen.
    PutLost,
    /// A bit of what is read is flipped.
    BitFlipped,
    /// A reader is told an end that lies before the real one.
    EndGoesBack,
    /// Readers are told that a log ends later than it does.
    EndTooFar,
}

/// Closed while an agent's process stands still. (A watch channel would wake those who wait in an order of its own chance.)
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<GateState>);

#[derive(Debug, Default)]
struct GateState {
    shut: AtomicBool,
    opened: Notify,
}

impl Gate {
    pub(crate) fn open(&self) {
        self.0.shut.store(false, Ordering::Relaxed);
        self.0.opened.notify_waiters();
    }

    pub(crate) fn shut(&self) {
        self.0.shut.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_shut(&self) -> bool {
        self.0.shut.load(Ordering::Relaxed)
    }

    pub(crate) async fn pass(&self) {
        while self.is_shut() {
            self.0.opened.notified().await;
        }
    }
}

/// An agent's way to the metastore.
#[derive(Debug)]
pub(crate) struct Link {
    flaky: Arc<Flaky>,
    world: Arc<World>,
    gate: Gate,
    dice: Dice,
    odds: Mutex<Odds>,
    /// Hears no announcements.
    deaf: Arc<AtomicBool>,
    /// Of the agent.
    tasks: Tasks,
    /// Held back by sabotage.
    withheld: Mutex<Vec<WriteEvent>>,
    rounds: AtomicU64,
}

impl Link {
    pub(crate) fn new(world: &Arc<World>, flaky: Arc<Flaky>, gate: Gate, dice: Dice, tasks: Tasks) -> Link {
        Link {
            flaky,
            world: Arc::clone(world),
            gate,
            dice,
            odds: Mutex::default(),
            deaf: Arc::default(),
            tasks,
            withheld: Mutex::default(),
            rounds: AtomicU64::new(0),
        }
    }

    pub(crate) fn set_odds(&self, odds: Odds) {
        *self.odds.lock().unwrap_or_else(PoisonError::into_inner) = odds;
    }

    fn odds(&self) -> Odds {
        *self.odds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_deaf(&self, deaf: bool) {
        self.deaf.store(deaf, Ordering::Relaxed);
    }

    /// An answer that is on its way back.
    async fn back(&self) {
        let odds = self.odds();
        if self.dice.chance(odds.delays / 2) {
            tokio::time::sleep(self.dice.millis(0, odds.longest.as_millis() as u64)).await;
        }
        self.gate.pass().await;
    }

    async fn through<T>(&self, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.gate.pass().await;
        let result = call.await;
        self.back().await;
        result
    }

    fn sabotaged(&self, sabotage: Sabotage, thousandths: u64) -> bool {
        self.world.sabotage == sabotage && self.dice.chance(thousandths)
    }

    /// The statement is on its way when its connection breaks.
    fn append_late(&self, events: &[WriteEvent]) -> Result<()> {
        let (metastore, events, wait) = (Arc::clone(&self.world.metastore), events.to_vec(), self.dice.millis(0, 4_000));
        self.world.tasks.spawn("late append", async move {
            tokio::time::sleep(wait).await;
            let _ = metastore.append(&events).await;
        });
        Err(MetaError::Indeterminate("the connection broke".to_owned()))
    }

    async fn append_withholding(&self, events: &[WriteEvent]) -> Result<()> {
        let withheld = std::mem::take(&mut *self.withheld.lock().unwrap_or_else(PoisonError::into_inner));
        if withheld.is_empty() && self.sabotaged(Sabotage::CommitOutOfOrder, 50) {
            *self.withheld.lock().unwrap_or_else(PoisonError::into_inner) = events.to_vec();
            return Ok(());
        }
        self.flaky.append(events).await?;
        if withheld.is_empty() { Ok(()) } else { self.world.metastore.append(&withheld).await }
    }

    async fn append_twice(&self, events: &[WriteEvent]) {
        for event in events {
            let twin = WriteEvent { object: self.dice.ids().object(), ..event.clone() };
            let all = ByteRange { start: 0, len: event.object_bytes };
            let pieces = self.world.store.get_range(event.object, all).await.expect("it was put");
            self.world.store.put(twin.object, ObjectBody::new(pieces)).await.expect("memory");
            self.world.metastore.append(&[twin]).await.expect("memory");
        }
    }

    fn decider(&self, decide: &Decide) -> Decide {
        let (sabotage, decide, hit) = (self.world.sabotage, Arc::clone(decide), self.rounds.fetch_add(1, Ordering::Relaxed) % 20 == 7);
        match sabotage {
            Sabotage::OffsetTwice if hit => Arc::new(move |snapshot| offset_twice(decide(snapshot))),
            Sabotage::ForgottenParked => Arc::new(move |snapshot| Decisions { park: Vec::new(), ..decide(snapshot) }),
            Sabotage::ForgottenProducers if hit => Arc::new(move |mut snapshot| {
                snapshot.producers.clear();
                decide(snapshot)
            }),
            Sabotage::NobodyIdempotent => Arc::new(move |mut snapshot| {
                for run in snapshot.events.iter_mut().filter_map(|e| e.runs.as_mut().ok()).flatten() {
                    run.batches.iter_mut().for_each(|batch| batch.producer = None);
                }
                decide(snapshot)
            }),
            _ => decide,
        }
    }
}

/// The first log of the round begins one offset too early.
fn offset_twice(mut decisions: Decisions) -> Decisions {
    let Some(log) = decisions.segments.iter().find(|s| s.base_offset > Offset(0)).map(|s| s.log) else { return decisions };
    for segment in decisions.segments.iter_mut().filter(|s| s.log == log) {
        segment.base_offset.0 -= 1;
        segment.last_offset.0 -= 1;
    }
    if let Some(head) = decisions.heads.get_mut(&log) {
        head.high_watermark.0 -= 1;
    }
    decisions
}

#[async_trait]
impl Log for Link {
    async fn append(&self, events: &[WriteEvent]) -> Result<()> {
        self.gate.pass().await;
        if self.dice.chance(self.odds().late) {
            return self.append_late(events);
        }
        if self.sabotaged(Sabotage::CommitLost, 50) {
            return Ok(());
        }
        let mut result = self.append_withholding(events).await;
        if result.is_ok() && self.sabotaged(Sabotage::CommitTwice, 50) {
            self.append_twice(events).await;
        }
        if self.world.sabotage == Sabotage::BlindFaith && result.is_err() {
            result = Ok(());
        }
        self.back().await;
        result
    }

    async fn find_events(&self, objects: &[ObjectId]) -> Result<Vec<ObjectId>> {
        self.through(self.flaky.find_events(objects)).await
    }

    async fn verdicts(&self, objects: &[ObjectId]) -> Result<Vec<(ObjectId, ObjectVerdict)>> {
        self.through(self.flaky.verdicts(objects)).await
    }

    async fn run_round(&self, limits: RoundLimits, decide: &Decide) -> Result<Round> {
        self.gate.pass().await;
        let result = {
            let Ok(_held) = self.world.round.try_lock() else { return Ok(Round::Busy) };
            if self.dice.chance(self.odds().slow_rounds) {
                tokio::time::sleep(self.dice.millis(1, 150)).await;
            }
            self.flaky.run_round(limits, &self.decider(decide)).await
        };
        self.back().await;
        if let Ok(Round::Done(report)) = &result
            && report.events > 0
        {
            let parked = report.verdicts.iter().flat_map(|(_, v)| v.runs.iter().flatten()).filter(|v| **v == BatchVerdict::Parked).count();
            self.world.trace.note("round", format_args!("{} events, {} segments, {parked} parked", report.events, report.segments));
        }
        result
    }

    async fn pending_events(&self) -> Result<u64> {
        self.through(self.flaky.pending_events()).await
    }

    async fn heads(&self, logs: &[TopicPartition]) -> Result<Vec<Option<Head>>> {
        self.through(self.flaky.heads(logs)).await
    }

    async fn segments(&self, queries: &[SegmentQuery]) -> Result<Vec<Option<LogView>>> {
        let mut views = self.through(self.flaky.segments(queries)).await?;
        let (back, far) = (self.sabotaged(Sabotage::EndGoesBack, 50), self.sabotaged(Sabotage::EndTooFar, 50));
        for view in views.iter_mut().flatten().filter(|view| view.head.high_watermark > Offset(0)) {
            view.head.high_watermark.0 += i64::from(far) - i64::from(back);
        }
        Ok(views)
    }

    async fn first_segment_since(&self, log: TopicPartition, at: Timestamp) -> Result<Option<Segment>> {
        self.through(self.flaky.first_segment_since(log, at)).await
    }

    async fn expire_producers(&self, idle: Duration, limit: usize) -> Result<bool> {
        self.through(self.flaky.expire_producers(idle, limit)).await
    }

    async fn reserve_producer_ids(&self, count: u32) -> Result<ProducerId> {
        self.through(self.flaky.reserve_producer_ids(count)).await
    }
}

#[async_trait]
impl Topics for Link {
    async fn create_topic(&self, id: TopicId, name: &TopicName, partitions: i32, configs: &BTreeMap<String, String>) -> Result<Creation> {
        self.through(self.flaky.create_topic(id, name, partitions, configs)).await
    }

    async fn find_topics(&self, query: &TopicQuery) -> Result<Vec<Topic>> {
        self.through(self.flaky.find_topics(query)).await
    }

    async fn delete_topic(&self, id: TopicId) -> Result<bool> {
        self.through(self.flaky.delete_topic(id)).await
    }

    async fn sweep_deleted_topics(&self, limit: usize) -> Result<bool> {
        self.through(self.flaky.sweep_deleted_topics(limit)).await
    }
}

#[async_trait]
impl Offsets for Link {
    async fn commit_offsets(&self, group: &GroupId, expected: GroupVersion, offsets: &[(TopicPartition, CommittedOffset)]) -> Result<bool> {
        self.through(self.flaky.commit_offsets(group, expected, offsets)).await
    }

    async fn committed_offsets(&self, group: &GroupId, logs: Option<&[TopicPartition]>) -> Result<Vec<(TopicPartition, CommittedOffset)>> {
        self.through(self.flaky.committed_offsets(group, logs)).await
    }
}

#[async_trait]
impl Groups for Link {
    async fn load_groups(&self, groups: &[GroupId]) -> Result<Vec<GroupRow>> {
        self.through(self.flaky.load_groups(groups)).await
    }

    async fn store_group(&self, group: &GroupId, expected: GroupVersion, change: &GroupChange) -> Result<Option<GroupVersion>> {
        self.through(self.flaky.store_group(group, expected, change)).await
    }

    async fn delete_group(&self, group: &GroupId, expected: GroupVersion) -> Result<bool> {
        self.through(self.flaky.delete_group(group, expected)).await
    }

    async fn list_groups(&self) -> Result<Vec<(GroupId, GroupLabel)>> {
        self.through(self.flaky.list_groups()).await
    }

    async fn beat(&self, beats: &[Beat], known: &[(GroupId, GroupVersion)]) -> Result<Vec<(GroupId, GroupVersion)>> {
        self.through(self.flaky.beat(beats, known)).await
    }

    async fn sweep_groups(&self, sweep: GroupSweep) -> Result<Option<GroupsSwept>> {
        self.through(self.flaky.sweep_groups(sweep)).await
    }

    async fn expire_groups(&self, retention: Duration, linger: Duration, limit: usize) -> Result<bool> {
        self.through(self.flaky.expire_groups(retention, linger, limit)).await
    }

    async fn delete_offsets(&self, group: &GroupId, expected: GroupVersion, logs: &[TopicPartition]) -> Result<bool> {
        self.through(self.flaky.delete_offsets(group, expected, logs)).await
    }
}

#[async_trait]
impl Leases for Link {
    async fn cluster_id(&self, proposal: &str) -> Result<String> {
        self.through(self.flaky.cluster_id(proposal)).await
    }

    async fn acquire_lease(&self, wanted: Option<NodeId>, agent: &Registered, ttl: Duration) -> Result<LeaseOutcome> {
        self.through(self.flaky.acquire_lease(wanted, agent, ttl)).await
    }

    async fn renew_lease(&self, node: NodeId, instance: [u8; 16], ttl: Duration) -> Result<bool> {
        self.through(self.flaky.renew_lease(node, instance, ttl)).await
    }

    async fn release_lease(&self, node: NodeId, instance: [u8; 16]) -> Result<()> {
        self.through(self.flaky.release_lease(node, instance)).await
    }

    async fn live_agents(&self) -> Result<Vec<Registered>> {
        self.through(self.flaky.live_agents()).await
    }
}

impl Changes for Link {
    /// Loses what is announced while the agent is deaf or stands still, and some by chance.
    fn subscribe_changes(&self) -> mpsc::Receiver<Change> {
        let mut announced = self.flaky.subscribe_changes();
        let (heard, receiver) = mpsc::channel(16);
        let (deaf, gate, dice, lost) = (Arc::clone(&self.deaf), self.gate.clone(), self.dice.clone(), self.world.plan.odds.lost);
        self.tasks.spawn("hearing", async move {
            while let Some(change) = announced.recv().await {
                let unheard = deaf.load(Ordering::Relaxed) || gate.is_shut() || dice.chance(lost);
                let change = if dice.chance(20) { Change::Unknown } else { change };
                if !unheard {
                    // A full queue is one more way to lose it.
                    let _ = heard.try_send(change);
                }
            }
        });
        receiver
    }
}

#[async_trait]
impl Metastore for Link {
    async fn check(&self) -> Result<()> {
        self.through(self.flaky.check()).await
    }

    async fn migrate(&self) -> Result<()> {
        self.flaky.migrate().await
    }

    async fn check_schema(&self) -> Result<()> {
        self.flaky.check_schema().await
    }

    async fn close(&self) {
        self.flaky.close().await;
    }

    fn describe(&self) -> String {
        self.flaky.describe()
    }
}

/// How long an S3 client waits for an answer before it calls it an error.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// An agent's way to the store, without a cache.
#[derive(Debug)]
pub(crate) struct StoreLink {
    flaky: Arc<FlakyStore>,
    gate: Gate,
    dice: Dice,
    sabotage: Sabotage,
}

impl StoreLink {
    pub(crate) fn new(flaky: Arc<FlakyStore>, gate: Gate, dice: Dice, sabotage: Sabotage) -> StoreLink {
        StoreLink { flaky, gate, dice, sabotage }
    }

    async fn through<T>(
        &self,
        call: impl Future<Output = std::result::Result<T, StoreError>> + Send,
    ) -> std::result::Result<T, StoreError> {
        self.gate.pass().await;
        let result = call.await;
        self.gate.pass().await;
        result
    }

    fn sabotaged(&self, sabotage: Sabotage, thousandths: u64) -> bool {
        self.sabotage == sabotage && self.dice.chance(thousandths)
    }
}

#[async_trait]
impl ObjectStore for StoreLink {
    async fn put(&self, object: ObjectId, body: ObjectBody) -> std::result::Result<(), StoreError> {
        if self.sabotaged(Sabotage::PutLost, 30) {
            return Ok(());
        }
        self.through(self.flaky.put(object, body)).await
    }

    async fn get_up_to(&self, object: ObjectId, range: ByteRange) -> std::result::Result<Vec<Bytes>, StoreError> {
        self.through(self.flaky.get_up_to(object, range)).await
    }

    async fn delete(&self, objects: &[ObjectId]) -> std::result::Result<(), StoreError> {
        self.through(self.flaky.delete(objects)).await
    }

    async fn list(&self, after: Option<ObjectId>, limit: usize) -> std::result::Result<Vec<Listed>, StoreError> {
        self.through(self.flaky.list(after, limit)).await
    }

    async fn check(&self) -> std::result::Result<(), StoreError> {
        self.through(self.flaky.check()).await
    }

    fn describe(&self) -> String {
        self.flaky.describe()
    }
}

#[async_trait]
impl ReadRange for StoreLink {
    async fn read_range(&self, object: ObjectId, range: ByteRange) -> std::result::Result<Vec<Bytes>, StoreError> {
        let timed_out = |_| Err(StoreError::Unavailable("timed out".to_owned()));
        let pieces = tokio::time::timeout(READ_TIMEOUT, self.get_range(object, range)).await.unwrap_or_else(timed_out)?;
        if !self.sabotaged(Sabotage::BitFlipped, 20) {
            return Ok(pieces);
        }
        let mut joined = pieces.concat();
        if let Some(last) = joined.last_mut() {
            *last ^= 1;
        }
        Ok(vec![Bytes::from(joined)])
    }

    fn will_need(&self, _: ObjectId, _: ByteRange) {}
}

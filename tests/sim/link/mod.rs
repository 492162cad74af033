//! An agent's way to the metastore: what can go wrong beyond what the flaky wrapper does. Pauses, late commits, rounds that take their time,
//! announcements that are lost; and sabotage.

mod passing;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use yaks::clock::Ids as _;
use yaks::metastore::flaky::Flaky;
use yaks::metastore::{
    CommittedOffset, Decide, GroupVersion, Groups as _, Log, LogView, MetaError, PendingEvents, Result, Round, RoundLimits, RoundReport,
    SegmentQuery, WriteEvent,
};
use yaks::partition::{BatchVerdict, ObjectVerdict, RejectReason};
use yaks::store::{ObjectBody, ObjectStore as _};
use yaks::tasks::Tasks;
use yaks::types::{ByteRange, GroupId, Head, ObjectId, Offset, ProducerId, Segment, Timestamp, TopicPartition};

use crate::gate::Gate;
use crate::odds::Odds;
use crate::sabotage::Sabotage;
use crate::sights::Sight;
use crate::world::{Dice, World};

type Committed = (TopicPartition, CommittedOffset);

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
    fn append_late(&self, events: &[WriteEvent], writer: [u8; 16]) -> Result<()> {
        self.world.sights.saw(Sight::CommitLate, 1);
        let (metastore, events, wait) = (Arc::clone(&self.world.metastore), events.to_vec(), self.dice.millis(0, 4_000));
        self.world.tasks.spawn("late append", async move {
            tokio::time::sleep(wait).await;
            let _ = metastore.append(&events, writer).await;
        });
        Err(MetaError::Indeterminate("the connection broke".to_owned()))
    }

    async fn append_withholding(&self, events: &[WriteEvent], writer: [u8; 16]) -> Result<()> {
        let withheld = std::mem::take(&mut *self.withheld.lock().unwrap_or_else(PoisonError::into_inner));
        if withheld.is_empty() && self.sabotaged(Sabotage::CommitOutOfOrder, 50) {
            *self.withheld.lock().unwrap_or_else(PoisonError::into_inner) = events.to_vec();
            return Ok(());
        }
        self.flaky.append(events, writer).await?;
        if withheld.is_empty() { Ok(()) } else { self.world.metastore.append(&withheld, writer).await }
    }

    async fn append_twice(&self, events: &[WriteEvent], writer: [u8; 16]) {
        for event in events {
            let twin = WriteEvent { object: self.dice.ids().object(), ..event.clone() };
            let all = ByteRange { start: 0, len: event.object_bytes };
            let pieces = self.world.store.get_range(event.object, all).await.expect("it was put");
            self.world.store.put(twin.object, ObjectBody::new(pieces)).await.expect("memory");
            self.world.metastore.append(&[twin], writer).await.expect("memory");
        }
    }

    /// `None`: it is to be confirmed and nothing else.
    async fn spoil_commit(&self, group: &GroupId, expected: GroupVersion, offsets: &[Committed]) -> Option<(GroupVersion, Vec<Committed>)> {
        if self.sabotaged(Sabotage::OffsetsLost, 200) {
            return None;
        }
        let expected = if self.world.sabotage == Sabotage::GroupUnchecked { self.present_version(group).await } else { expected };
        let mut offsets = offsets.to_vec();
        let (low, high) = (self.sabotaged(Sabotage::OffsetsLow, 200), self.sabotaged(Sabotage::OffsetsHigh, 200));
        for (_, committed) in &mut offsets {
            committed.offset.0 += i64::from(high) - if low { committed.offset.0.min(3) } else { 0 };
        }
        Some((expected, offsets))
    }

    async fn present_version(&self, group: &GroupId) -> GroupVersion {
        self.world.metastore.load_groups(std::slice::from_ref(group)).await.expect("memory").remove(0).version
    }

    fn decider(&self, decide: &Decide) -> Decide {
        let hit = self.rounds.fetch_add(1, Ordering::Relaxed) % 20 == 7;
        self.world.sabotage.spoil(decide, hit || !self.world.sabotage.is_rare())
    }

    fn note_round(&self, report: &RoundReport) {
        if report.events == 0 {
            return;
        }
        let verdicts: Vec<&BatchVerdict> = report.verdicts.iter().flat_map(|(_, verdict)| verdict.runs.iter().flatten()).collect();
        let mut parked = 0;
        for verdict in verdicts {
            let sight = match verdict {
                BatchVerdict::Accepted { .. } | BatchVerdict::Rejected(RejectReason::DuplicateSequence) => continue,
                BatchVerdict::Duplicate { .. } => Sight::BatchDuplicate,
                BatchVerdict::Parked => Sight::BatchParked,
                BatchVerdict::Rejected(RejectReason::OutOfOrderSequence | RejectReason::MissingPredecessor) => Sight::BatchOutOfOrder,
                BatchVerdict::Rejected(RejectReason::Fenced) => Sight::BatchFenced,
                BatchVerdict::Rejected(RejectReason::UnknownLog) => Sight::LogUnknown,
            };
            parked += u64::from(sight == Sight::BatchParked);
            self.world.sights.saw(sight, 1);
        }
        self.world.trace.note("round", format_args!("{} events, {} segments, {parked} parked", report.events, report.segments.len()));
    }
}

#[async_trait]
impl Log for Link {
    async fn append(&self, events: &[WriteEvent], writer: [u8; 16]) -> Result<()> {
        self.gate.pass().await;
        if self.dice.chance(self.odds().late) {
            return self.append_late(events, writer);
        }
        if self.sabotaged(Sabotage::CommitLost, 50) {
            return Ok(());
        }
        let mut result = self.append_withholding(events, writer).await;
        if result.is_ok() && self.sabotaged(Sabotage::CommitTwice, 50) {
            self.append_twice(events, writer).await;
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
        if let Ok(Round::Done(report)) = &result {
            self.note_round(report);
        }
        result
    }

    async fn pending_events(&self) -> Result<PendingEvents> {
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

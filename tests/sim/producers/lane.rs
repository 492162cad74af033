//! What a client has to say to one partition: batches in order, until they are acknowledged.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;
use yaks::types::{BatchSummary, Sequence, TopicName, TopicPartition};

use crate::ledger::Span;
use crate::world::{Dice, World};

/// One partition the client writes to.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) topic: TopicName,
    pub(super) partition: i32,
    pub(super) log: Option<TopicPartition>,
    pub(super) next_sequence: Sequence,
    /// Its first batch was acknowledged: from now on no sequence can be out of order for good.
    pub(super) begun: bool,
    pub(super) unacked: VecDeque<Batch>,
}

#[derive(Debug)]
pub(super) struct Batch {
    pub(super) span: Span,
    pub(super) sequence: Sequence,
    pub(super) summary: BatchSummary,
    pub(super) bytes: bytes::Bytes,
    pub(super) born: Instant,
    pub(super) not_before: Instant,
    pub(super) in_flight: bool,
    pub(super) refusals: u32,
}

impl Lane {
    /// The batch is acknowledged.
    pub(super) fn settle(&mut self, span: &Span, first_sequence: Sequence) {
        if let Some(at) = self.unacked.iter().position(|batch| batch.span == *span) {
            self.begun |= self.unacked[at].sequence == first_sequence;
            self.unacked.remove(at);
        }
    }

    /// The batch is to be sent again.
    pub(super) fn put_back(&mut self, span: &Span, pause: Duration) {
        if let Some(batch) = self.unacked.iter_mut().find(|batch| batch.span == *span) {
            batch.in_flight = false;
            batch.not_before = Instant::now() + pause;
        }
    }

    pub(super) fn describe(&self) -> String {
        let first = self.unacked.front().map_or_else(String::new, |b| format!("{} since {:?}", b.span.first, b.born.elapsed()));
        format!("{}-{}: {} unacknowledged, the first is {first}", self.topic, self.partition, self.unacked.len())
    }
}

/// One to three partitions.
pub(super) fn lanes(world: &World, dice: &Dice) -> Vec<Lane> {
    let all: Vec<(TopicName, i32)> = world.plan.topics.iter().flat_map(|(name, n)| (0..*n).map(|p| (name.clone(), p))).collect();
    let (start, count) = (dice.below(all.len() as u64) as usize, dice.between(1, 3) as usize);
    let chosen = all.iter().cycle().skip(start).take(count).cloned();
    let lane =
        |(topic, partition)| Lane { topic, partition, log: None, next_sequence: Sequence(0), begun: false, unacked: VecDeque::new() };
    chosen.map(lane).collect()
}

//! Random scripts, played to a metastore and to the reference model: both must say the same.

use std::sync::Arc;
use std::time::Duration;

use super::Backend;
use super::scene::{ManualClock, append, event, from, object, parking_for, plain, round_with, stamped, topic};
use crate::clock::{Ids as _, RandomIds, SystemClock};
use crate::metastore::memory::MemoryMetastore;
use crate::metastore::{Metastore, RoundLimits, WriteEvent};
use crate::types::{BatchSummary, TopicPartition};

const TOPICS: u8 = 2;
const PARTITIONS: i32 = 3;

struct Script {
    chance: RandomIds<SystemClock>,
    /// The next sequence of each producer.
    sequences: [i32; 3],
    objects: u32,
}

impl Script {
    /// Mostly what comes next; sometimes a repetition, sometimes something too early.
    fn batch(&mut self) -> BatchSummary {
        let records = 1 + self.chance.below(3) as u32;
        let producer = self.chance.below(4) as usize;
        let Some(next) = self.sequences.get_mut(producer) else { return plain(records) };
        let sequence = match self.chance.below(6) {
            0 => (*next - 3).max(0),
            1 => *next + 2,
            _ => *next,
        };
        *next = (*next).max(sequence + records as i32);
        stamped(producer as i64, sequence, records)
    }

    fn event(&mut self) -> WriteEvent {
        let mut runs = Vec::new();
        for _ in 0..=self.chance.below(3) {
            let topic = crate::types::TopicId([1 + self.chance.below(u64::from(TOPICS)) as u8; 16]);
            let log = TopicPartition::new(topic, self.chance.below(PARTITIONS as u64 + 1) as i32);
            let batches = (0..=self.chance.below(2)).map(|_| self.batch()).collect();
            runs.push((log, batches));
        }
        // Now and then an object again.
        if self.objects == 0 || self.chance.below(8) > 0 {
            self.objects += 1;
        }
        event(self.objects, runs)
    }
}

async fn compare(metastore: &Arc<dyn Metastore>, model: &Arc<dyn Metastore>, objects: u32) {
    let objects: Vec<_> = (1..=objects).map(object).collect();
    let (mut is, mut should) = (metastore.verdicts(&objects).await.expect("verdicts"), model.verdicts(&objects).await.expect("verdicts"));
    is.sort_by_key(|(object, _)| *object);
    should.sort_by_key(|(object, _)| *object);
    assert_eq!(is, should);
    let mut queries = Vec::new();
    for number in 1..=TOPICS {
        queries.extend((0..=PARTITIONS).map(|p| from(TopicPartition::new(crate::types::TopicId([number; 16]), p), 0)));
    }
    assert_eq!(metastore.segments(&queries).await.expect("read"), model.segments(&queries).await.expect("read"));
    assert_eq!(metastore.pending_events().await.expect("counted").count, model.pending_events().await.expect("counted").count);
}

pub(super) async fn random_scripts(backend: &dyn Backend) {
    let model: Arc<dyn Metastore> = Arc::new(MemoryMetastore::new(Arc::new(ManualClock::default())));
    let metastore = backend.metastore();
    for number in 1..=TOPICS {
        topic(&metastore, number, PARTITIONS).await;
        topic(&model, number, PARTITIONS).await;
    }
    let mut script = Script { chance: RandomIds::seeded(SystemClock, 20_26), sequences: [0; 3], objects: 0 };
    // Nothing falls due: the clocks differ.
    let decide = parking_for(Duration::from_hours(24));
    for _ in 0..60 {
        let events: Vec<_> = (0..script.chance.below(5)).map(|_| script.event()).collect();
        append(&metastore, &events).await;
        append(&model, &events).await;
        let limits = RoundLimits { events: 1 + script.chance.below(4) as usize };
        let (is, should) = (round_with(&metastore, limits, &decide).await, round_with(&model, limits, &decide).await);
        assert_eq!((is.events, is.segments, is.more, &is.heads), (should.events, should.segments, should.more, &should.heads));
        assert_eq!(is.next_due.is_some(), should.next_due.is_some());
        compare(&metastore, &model, script.objects).await;
    }
}

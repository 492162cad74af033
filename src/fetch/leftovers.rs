//! What look-ups found beyond what their fetches could carry, for the fetches that go on from there.
//!
//! A consumer that lags asks for the same segments again and again, a little further on each time. Segments seldom change, so one look-up
//! serves several such fetches. It is not trusted for longer than what is known of a log's end: see [`super::FetchConfig::look_every`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::FetchLog;
use crate::metastore::LogView;
use crate::types::{Offset, TopicPartition};

/// Look-ups kept at least; at most twice as many are.
const KEPT: usize = 512;

/// What was found out about a log, and when it was asked for.
#[derive(Debug, Clone)]
pub(super) struct Sight {
    pub view: Arc<LogView>,
    pub asked_at: Instant,
}

impl Sight {
    /// Whether the segments behind the first wanted one suffice for `log`, so that no more would be found by asking.
    fn suffices(&self, log: &FetchLog) -> bool {
        let wanted = self.view.segments.iter().skip_while(|segment| segment.last_offset < log.from);
        wanted.skip(1).map(|segment| segment.range.len).sum::<u64>() >= log.max_bytes.max(1)
    }
}

/// Look-ups by the offset that comes next.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    sights: Mutex<Generations>,
}

type Sights = HashMap<(TopicPartition, Offset), Sight>;

#[derive(Debug, Default)]
struct Generations {
    young: Sights,
    old: Sights,
}

impl Leftovers {
    /// Keeps a look-up for the fetch that will begin at `next`.
    pub(super) fn keep(&self, log: TopicPartition, next: Offset, sight: Sight) {
        if sight.view.segments.last().is_none_or(|last| last.last_offset < next) {
            return;
        }
        let mut sights = self.sights.lock().unwrap_or_else(PoisonError::into_inner);
        if sights.young.len() >= KEPT {
            sights.old = std::mem::take(&mut sights.young);
        }
        sights.young.insert((log, next), sight);
    }

    /// A look-up that answers `log`, made at most `age` ago.
    pub(super) fn find(&self, log: &FetchLog, age: Duration) -> Option<Sight> {
        let key = (log.log, log.from);
        let sights = self.sights.lock().unwrap_or_else(PoisonError::into_inner);
        let sight = sights.young.get(&key).or_else(|| sights.old.get(&key))?;
        (sight.asked_at.elapsed() <= age && sight.suffices(log)).then(|| sight.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::testing::segment;
    use crate::types::{Head, Timestamp};

    fn sight() -> Sight {
        let head =
            Head { log_start: Offset(0), high_watermark: Offset(30), last_stable: Offset(30), max_timestamp: Timestamp(0), bytes: 3_000 };
        let segments = (0..3i64).map(|i| segment(i.unsigned_abs(), i * 10..(i + 1) * 10, 0..1_000)).collect();
        Sight { view: Arc::new(LogView { head, segments }), asked_at: Instant::now() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_up_serves_the_fetches_that_go_on_while_it_is_young_and_reaches_far_enough() {
        let (leftovers, log) = (Leftovers::default(), segment(0, 0..10, 0..1_000).log);
        let from = |offset, max_bytes| FetchLog { log, from: Offset(offset), max_bytes };
        let second = Duration::from_secs(1);
        leftovers.keep(log, Offset(5), sight());
        assert!(leftovers.find(&from(5, 2_000), second).is_some());
        assert!(leftovers.find(&from(5, 2_001), second).is_none(), "there may be more that is not known");
        assert!(leftovers.find(&from(6, 1), second).is_none(), "nobody stopped there");
        leftovers.keep(log, Offset(20), sight());
        assert!(leftovers.find(&from(20, 1), second).is_none(), "the last segment is all that is left");
        tokio::time::advance(second * 2).await;
        assert!(leftovers.find(&from(5, 2_000), second).is_none());
    }

    #[tokio::test]
    async fn the_oldest_are_forgotten() {
        let (leftovers, log) = (Leftovers::default(), segment(0, 0..10, 0..1_000).log);
        leftovers.keep(log, Offset(0), sight());
        for partition in 0..2 * KEPT as i32 {
            leftovers.keep(TopicPartition::new(log.topic, partition), Offset(1), sight());
        }
        let age = Duration::from_mins(1);
        assert!(leftovers.find(&FetchLog { log, from: Offset(0), max_bytes: 1 }, age).is_none());
    }
}

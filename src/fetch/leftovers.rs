//! What is known of segments before anybody asks for them.
//!
//! A consumer that lags asks for the same segments again and again, a little further on each time: one look-up serves several such fetches
//! ([`Leftovers::keep`]). A consumer at the end asks for just what a round has written: whoever ran the round need not ask at all
//! ([`Leftovers::learn`]). Segments seldom change, but neither is trusted for longer than what is known of a log's end: see
//! [`super::FetchConfig::look_every`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::FetchLog;
use crate::metastore::LogView;
use crate::types::{Head, Offset, Segment, TopicPartition};

/// Sights kept at least; at most twice as many are.
const KEPT: usize = 512;
/// Rounds joined for one fetch at most.
const ROUNDS: usize = 32;

/// What was found out about a log, and when it was asked for.
#[derive(Debug, Clone)]
pub(super) struct Sight {
    pub view: Arc<LogView>,
    pub asked_at: Instant,
}

impl Sight {
    /// Where it ends.
    fn next(&self) -> Option<Offset> {
        self.view.segments.last().map(|last| last.last_offset.plus(1))
    }

    /// Whether the log goes on behind it.
    pub(super) fn is_cut(&self) -> bool {
        self.next().is_some_and(|next| next < self.view.head.high_watermark)
    }

    /// Whether no more is to be found by asking: it reaches the log's `end`, or the segments behind the first wanted one suffice for `log` and for what is
    /// to be read `ahead` of it, which would otherwise end where the sight does, and begin anew behind it.
    fn suffices(&self, log: &FetchLog, ahead: u64, end: Offset) -> bool {
        let segments = &self.view.segments;
        if self.next() == Some(end) {
            return true;
        }
        let bytes = |segments: &[Segment]| segments.iter().map(|segment| segment.range.len).sum::<u64>();
        let fetch = log.max_bytes.max(1);
        // Many small segments may not reach that far in one look-up: those still serve some fetches.
        let ahead = ahead.min(bytes(segments).saturating_sub(fetch.saturating_mul(2)) / 2);
        let wanted = segments.partition_point(|segment| segment.last_offset < log.from);
        bytes(segments.get(wanted + 1..).unwrap_or_default()) >= fetch.saturating_add(ahead)
    }
}

/// Sights by the offset that comes next.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    /// Of look-ups: what they found beyond what their fetches could carry.
    found: Mutex<Generations>,
    /// Of rounds: what they wrote.
    written: Mutex<Generations>,
}

type Sights = HashMap<(TopicPartition, Offset), Sight>;

#[derive(Debug, Default)]
struct Generations {
    young: Sights,
    old: Sights,
}

impl Generations {
    fn keep(&mut self, log: TopicPartition, next: Offset, sight: Sight) {
        if self.young.len() >= KEPT {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert((log, next), sight);
    }

    /// A sight that begins at `next`, made at most `age` ago.
    fn get(&self, log: TopicPartition, next: Offset, age: Duration) -> Option<&Sight> {
        let sight = self.young.get(&(log, next)).or_else(|| self.old.get(&(log, next)))?;
        (sight.asked_at.elapsed() <= age).then_some(sight)
    }

    /// What rounds in a row have written from where `log` begins.
    fn joined(&self, log: &FetchLog, ahead: u64, end: Offset, age: Duration) -> Option<Sight> {
        let mut sight = self.get(log.log, log.from, age)?.clone();
        for _ in 0..ROUNDS {
            if sight.suffices(log, ahead, end) {
                return Some(sight);
            }
            let more = self.get(log.log, sight.next()?, age)?;
            Arc::make_mut(&mut sight.view).segments.extend(&more.view.segments);
        }
        None
    }
}

impl Leftovers {
    /// Keeps a look-up for the fetch that will begin at `next`.
    pub(super) fn keep(&self, log: TopicPartition, next: Offset, sight: Sight) {
        if sight.view.segments.last().is_some_and(|last| last.last_offset >= next) {
            lock(&self.found).keep(log, next, sight);
        }
    }

    /// Keeps what a round has written for the fetches that will begin there.
    pub(super) fn learn(&self, heads: &[(TopicPartition, Head)], segments: &[Segment]) {
        let asked_at = Instant::now();
        let mut by_log: HashMap<TopicPartition, Vec<Segment>> = HashMap::new();
        for segment in segments {
            by_log.entry(segment.log).or_default().push(*segment);
        }
        let mut written = lock(&self.written);
        for (log, head) in heads {
            let Some(mut segments) = by_log.remove(log) else { continue };
            segments.sort_unstable_by_key(|segment| segment.base_offset);
            if let Some(first) = segments.first() {
                written.keep(*log, first.base_offset, Sight { view: Arc::new(LogView { head: *head, segments }), asked_at });
            }
        }
    }

    /// What answers `log`, of which `end` is the end, says what follows for `ahead` bytes, and is not older than `age`.
    pub(super) fn find(&self, log: &FetchLog, ahead: u64, end: Offset, age: Duration) -> Option<Sight> {
        if let Some(sight) = lock(&self.found).get(log.log, log.from, age).filter(|sight| sight.suffices(log, ahead, end)) {
            return Some(sight.clone());
        }
        lock(&self.written).joined(log, ahead, end, age)
    }
}

fn lock(sights: &Mutex<Generations>) -> MutexGuard<'_, Generations> {
    sights.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::testing::segment;
    use crate::types::Timestamp;

    fn head(end: i64) -> Head {
        Head { log_start: Offset(0), high_watermark: Offset(end), last_stable: Offset(end), max_timestamp: Timestamp(0), bytes: 3_000 }
    }

    fn sight() -> Sight {
        let segments = (0..3i64).map(|i| segment(i.unsigned_abs(), i * 10..(i + 1) * 10, 0..1_000)).collect();
        Sight { view: Arc::new(LogView { head: head(30), segments }), asked_at: Instant::now() }
    }

    const SECOND: Duration = Duration::from_secs(1);
    const END: Offset = Offset(40);

    #[tokio::test(start_paused = true)]
    async fn a_look_up_serves_the_fetches_that_go_on_while_it_is_young_and_reaches_far_enough() {
        let (leftovers, log) = (Leftovers::default(), segment(0, 0..10, 0..1_000).log);
        let from = |offset, max_bytes| FetchLog { log, from: Offset(offset), max_bytes };
        leftovers.keep(log, Offset(5), sight());
        assert!(leftovers.find(&from(5, 2_000), 0, END, SECOND).is_some());
        assert!(leftovers.find(&from(5, 2_001), 0, END, SECOND).is_none(), "there may be more that is not known");
        assert!(leftovers.find(&from(5, 2_001), 0, Offset(30), SECOND).is_some(), "there is no more");
        assert!(leftovers.find(&from(6, 1), 0, END, SECOND).is_none(), "nobody stopped there");
        leftovers.keep(log, Offset(20), sight());
        assert!(leftovers.find(&from(20, 1), 0, END, SECOND).is_none(), "the last segment is all that is left");
        tokio::time::advance(SECOND * 2).await;
        assert!(leftovers.find(&from(5, 2_000), 0, END, SECOND).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_rounds_have_written_serves_who_reads_the_end() {
        let (leftovers, log) = (Leftovers::default(), segment(0, 0..10, 0..1_000).log);
        let from = |offset| FetchLog { log, from: Offset(offset), max_bytes: 1 << 20 };
        let offsets = |sight: Sight| sight.view.segments.iter().map(|s| s.base_offset.0).collect::<Vec<_>>();
        leftovers.learn(&[(log, head(20))], &[segment(1, 10..20, 0..100), segment(0, 0..10, 0..100)]);
        assert_eq!(leftovers.find(&from(0), 0, Offset(20), SECOND).map(offsets), Some(vec![0, 10]));
        assert!(leftovers.find(&from(0), 0, Offset(25), SECOND).is_none(), "another agent has written more");
        assert!(leftovers.find(&from(5), 0, Offset(20), SECOND).is_none(), "nobody stopped there");
        leftovers.learn(&[(log, head(25))], &[segment(2, 20..25, 0..100)]);
        assert_eq!(leftovers.find(&from(0), 0, Offset(25), SECOND).map(offsets), Some(vec![0, 10, 20]));
        tokio::time::advance(SECOND * 2).await;
        assert!(leftovers.find(&from(0), 0, Offset(25), SECOND).is_none());
    }

    #[tokio::test]
    async fn the_oldest_are_forgotten() {
        let (leftovers, log) = (Leftovers::default(), segment(0, 0..10, 0..1_000).log);
        leftovers.keep(log, Offset(0), sight());
        for partition in 0..2 * KEPT as i32 {
            leftovers.keep(TopicPartition::new(log.topic, partition), Offset(1), sight());
        }
        let age = Duration::from_mins(1);
        assert!(leftovers.find(&FetchLog { log, from: Offset(0), max_bytes: 1 }, 0, END, age).is_none());
    }
}

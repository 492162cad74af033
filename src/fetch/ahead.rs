//! How far ahead of consumers that lag objects are read.
//!
//! What is read ahead waits in the cache for its consumer. If more waits there than the cache can hold, each consumer's pushes out another's, and much is
//! read twice: that is slower than no read-ahead. So consumers that lag share the room: few of them get all that is good for one, many get less.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::types::{Offset, TopicPartition};

/// Who has not gone on for so long may be gone, and after twice as long counts no more.
const LATELY: Duration = Duration::from_secs(1);
/// A share below this is none: objects are read by the page, and a short range ahead would take a whole one.
const SHORTEST: u64 = 256 << 10;

/// Shares out the room for what is read ahead.
#[derive(Debug)]
pub(super) struct ReadAhead {
    lagging: Mutex<Lagging>,
}

/// Where consumers that lag will go on. Two that go on at the same place need the same bytes, and count as one.
#[derive(Debug)]
struct Lagging {
    young: HashSet<(TopicPartition, Offset)>,
    old: HashSet<(TopicPartition, Offset)>,
    turned_at: Instant,
}

impl Default for ReadAhead {
    fn default() -> Self {
        ReadAhead { lagging: Mutex::new(Lagging { young: HashSet::new(), old: HashSet::new(), turned_at: Instant::now() }) }
    }
}

impl ReadAhead {
    /// How far ahead each of a fetch's `logs` is read, in bytes: `alone` if nobody else lags, and no more than leaves a share of `room` for each log of
    /// each who does.
    pub(super) fn share(&self, logs: usize, alone: u64, room: u64) -> u64 {
        let lagging = self.lagging();
        let all = (lagging.young.len() + lagging.old.len()).max(logs).max(1);
        drop(lagging);
        let share = alone.min(room / all as u64);
        if share < SHORTEST.min(alone) { 0 } else { share }
    }

    /// A consumer has gone on, in each of these logs from an offset to the next, if it lags there still.
    pub(super) fn went_on(&self, steps: impl Iterator<Item = (TopicPartition, Offset, Option<Offset>)>) {
        let mut lagging = self.lagging();
        for (log, from, next) in steps {
            if !lagging.young.remove(&(log, from)) {
                lagging.old.remove(&(log, from));
            }
            lagging.young.extend(next.map(|next| (log, next)));
        }
    }

    /// Those who count now.
    fn lagging(&self) -> MutexGuard<'_, Lagging> {
        let mut lagging = self.lagging.lock().unwrap_or_else(PoisonError::into_inner);
        let young_for = lagging.turned_at.elapsed();
        if young_for >= LATELY {
            lagging.old = std::mem::take(&mut lagging.young);
            lagging.turned_at = Instant::now();
        }
        if young_for >= 2 * LATELY {
            lagging.old.clear();
        }
        lagging
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::testing::log;

    const ALONE: u64 = 12 << 20;
    const ROOM: u64 = 36 << 20;

    /// Consumers that begin at these offsets of a log go on by ten.
    fn go_on(ahead: &ReadAhead, from: impl IntoIterator<Item = i64>) {
        ahead.went_on(from.into_iter().map(|from| (log(0), Offset(from), Some(Offset(from + 10)))));
    }

    #[tokio::test(start_paused = true)]
    async fn consumers_that_lag_share_the_room() {
        let ahead = ReadAhead::default();
        assert_eq!(ahead.share(1, ALONE, ROOM), ALONE);
        assert_eq!(ahead.share(4, ALONE / 4, ROOM), ALONE / 4);
        for times in 0..100 {
            go_on(&ahead, [0, 1_000, 2_000].map(|from| from + 10 * times));
            assert_eq!(ahead.share(1, ALONE, ROOM), ALONE, "there is room for three");
        }
        go_on(&ahead, [5_000, 6_000, 7_000]);
        assert_eq!(ahead.share(1, ALONE, ROOM), ROOM / 6);
        go_on(&ahead, [6_000]);
        assert_eq!(ahead.share(1, ALONE, ROOM), ROOM / 6, "at the same place both need the same");
        ahead.went_on(std::iter::once((log(0), Offset(7_010), None)));
        assert_eq!(ahead.share(1, ALONE, ROOM), ROOM / 5, "one has come to the end");
        tokio::time::advance(LATELY).await;
        go_on(&ahead, [1_000, 7_500, 8_000, 9_000]);
        assert_eq!(ahead.share(1, ALONE, ROOM), ROOM / 8, "who was here lately may come again");
        tokio::time::advance(LATELY).await;
        assert_eq!(ahead.share(1, ALONE, ROOM), ROOM / 4, "who has not come back does not count");
        tokio::time::advance(LATELY).await;
        assert_eq!(ahead.share(1, ALONE, ROOM), ALONE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_that_is_not_worth_a_request_is_none() {
        let ahead = ReadAhead::default();
        go_on(&ahead, (0..100).map(|consumer| consumer * 1_000));
        assert_eq!(ahead.share(1, ALONE, 100 * SHORTEST), SHORTEST);
        assert_eq!(ahead.share(1, ALONE, 100 * SHORTEST - 1), 0);
        assert_eq!(ahead.share(1, 0, ROOM), 0, "switched off");
        assert_eq!(ahead.share(1, 1_000, ROOM), 1_000, "what is configured counts");
    }
}

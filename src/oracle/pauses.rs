//! How long clients were kept waiting: the longest time in which a producer got no acknowledgement, or a log brought a group nothing new.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// One time of waiting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pause {
    pub who: String,
    /// After the start of the run.
    pub began: Duration,
    pub length: Duration,
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s ({}, {:.1} s after the start)", self.length.as_secs_f64(), self.who, self.began.as_secs_f64())
    }
}

/// Keeps the longest pause of each of many that wait for news.
#[derive(Debug)]
pub(super) struct Pauses<K> {
    start: Instant,
    last: BTreeMap<K, Instant>,
    longest: BTreeMap<K, (Instant, Duration)>,
}

impl<K: Ord + Clone + fmt::Display> Pauses<K> {
    pub(super) fn new(start: Instant) -> Pauses<K> {
        Pauses { start, last: BTreeMap::new(), longest: BTreeMap::new() }
    }

    /// `who` has heard something. The first news begin the first pause: how long a client takes to get going is not counted.
    pub(super) fn news(&mut self, who: &K, now: Instant) {
        let Some(last) = self.last.insert(who.clone(), now) else { return };
        let length = now.saturating_duration_since(last);
        let longest = self.longest.entry(who.clone()).or_insert((last, length));
        if length > longest.1 {
            *longest = (last, length);
        }
    }

    /// The longest of each, the longest of all first.
    pub(super) fn longest(&self) -> Vec<Pause> {
        let pause = |(who, (began, length)): (&K, &(Instant, Duration))| Pause {
            who: who.to_string(),
            began: began.saturating_duration_since(self.start),
            length: *length,
        };
        let mut all: Vec<Pause> = self.longest.iter().map(pause).collect();
        all.sort_by(|a, b| b.length.cmp(&a.length).then_with(|| a.who.cmp(&b.who)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_wait_of_each_is_kept_and_the_first_news_is_none() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut pauses = Pauses::new(start);
        for (who, millis) in [("a", 500), ("b", 600), ("a", 700), ("b", 2_600), ("a", 1_700), ("b", 2_700), ("c", 9_000)] {
            pauses.news(&who, at(millis));
        }
        let pause = |who: &str, began, length| Pause {
            who: who.to_owned(),
            began: Duration::from_millis(began),
            length: Duration::from_millis(length),
        };
        assert_eq!(pauses.longest(), [pause("b", 600, 2_000), pause("a", 700, 1_000)]);
    }
}

//! Finding out where logs' data is: from the board of heads, from what look-ups and rounds have left, else from the metastore.
//!
//! A consumer that reads on without a pause waits for few look-ups but its first: when what is known will not do for its next fetch, more is looked up
//! while the answer is on its way to it ([`Sights::look_further`]). What is known grows old; who pauses longer than that looks for himself.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::leftovers::{Leftovers, Sight};
use super::{FetchConfig, FetchError, FetchLog, Watermarks};
use crate::metastore::{Log, LogView, SegmentQuery};
use crate::tasks::Tasks;
use crate::types::{Head, Offset, Segment, TopicPartition};

/// Segments asked for per log: the configured number is shared by the logs of a fetch, within these bounds. A metastore may read as many rows
/// as it is allowed, so more of them would be a burden when segments are large.
pub(super) const FEWEST_SEGMENTS: usize = 8;
const MOST_SEGMENTS: usize = 128;
/// A look-up reaches this many times as far as its fetch can carry: for the fetches after it.
const FETCHES_A_LOOK: u64 = 16;
/// Look-ups that nobody waits for, at the same time. Others are left to the fetches that need them.
const FURTHER_AT_ONCE: usize = 4;

/// Whether what is known already counts as an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// A log known to be read to its end is not asked for, nor one of which enough is known.
    Known,
    Nothing,
}

/// What was found out about one log.
pub(super) type Look = Result<Sight, FetchError>;

/// What is known of logs.
#[derive(Debug)]
pub(super) struct Sights {
    metastore: Arc<dyn Log>,
    watermarks: Arc<Watermarks>,
    leftovers: Leftovers,
    further: Arc<Semaphore>,
    tasks: Tasks,
    config: FetchConfig,
}

impl Sights {
    pub(super) fn new(metastore: Arc<dyn Log>, watermarks: Arc<Watermarks>, tasks: Tasks, config: FetchConfig) -> Arc<Sights> {
        let further = Arc::new(Semaphore::new(FURTHER_AT_ONCE));
        Arc::new(Sights { metastore, watermarks, leftovers: Leftovers::default(), further, tasks, config })
    }

    /// What a round of this agent has written.
    pub(super) fn learn(&self, heads: &[(TopicPartition, Head)], segments: &[Segment]) {
        self.leftovers.learn(heads, segments);
    }

    /// Finds out about each log: from what is known where that is enough, else from the metastore, in one statement.
    pub(super) async fn look(&self, logs: &[FetchLog], trust: Trust) -> Vec<Look> {
        let known = match trust {
            Trust::Known => self.known(logs),
            Trust::Nothing => logs.iter().map(|_| None).collect(),
        };
        let mut answers = self.ask(&unknown(logs, &known)).await.into_iter();
        known.into_iter().map(|known| known.map_or_else(|| answers.next().unwrap_or(Err(FetchError::UnknownLog)), Ok)).collect()
    }

    /// Keeps a sight for the fetch that will begin at `next`.
    pub(super) fn keep(&self, log: TopicPartition, next: Offset, sight: Sight) {
        self.leftovers.keep(log, next, sight);
    }

    /// Has the metastore asked for those of `logs`, from where the next fetch will begin, of which too little is known for it; nobody waits for that.
    pub(super) fn look_further(self: &Arc<Self>, logs: &[FetchLog]) {
        let asked = unknown(logs, &self.known(logs));
        if asked.is_empty() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.further).try_acquire_owned() else { return };
        let sights = Arc::clone(self);
        self.tasks.spawn("look further", async move {
            for (log, look) in asked.iter().zip(sights.ask(&asked).await) {
                // What is wrong will be met by the fetch itself.
                if let Ok(sight) = look {
                    sights.keep(log.log, log.from, sight);
                }
            }
            drop(permit);
        });
    }

    /// Each log as the board or an earlier look-up knows it, if nothing more would be found by asking.
    fn known(&self, logs: &[FetchLog]) -> Vec<Option<Sight>> {
        // Twice the period, so that knowledge that is refreshed once in a period never counts as old.
        let age = self.config.look_every * 2;
        let heads: Vec<Option<Head>> = logs.iter().map(|log| self.watermarks.fresh(log.log, age)).collect();
        let lagging = logs.iter().zip(&heads).filter(|(log, head)| head.is_none_or(|head| head.high_watermark > log.from)).count();
        let ahead = self.config.ahead(lagging);
        let known = logs.iter().zip(heads).map(|(log, head)| {
            let head = head?;
            if head.high_watermark == log.from {
                return Some(Sight { view: Arc::new(LogView { head, segments: Vec::new() }), asked_at: Instant::now() });
            }
            if log.from < head.log_start {
                return None;
            }
            let Sight { view, asked_at } = self.leftovers.find(log, ahead, head.high_watermark, age)?;
            // The board's head is never older than the look-up's: an end that was told does not go back.
            Some(Sight { view: Arc::new(LogView { head, segments: view.segments.clone() }), asked_at })
        });
        known.collect()
    }

    /// Asks the metastore: one answer for each of `logs`.
    pub(super) async fn ask(&self, logs: &[FetchLog]) -> Vec<Look> {
        if logs.is_empty() {
            return Vec::new();
        }
        let asked_at = Instant::now();
        let ahead = self.config.ahead(logs.len());
        let max_segments = (self.config.max_segments / logs.len()).clamp(FEWEST_SEGMENTS, MOST_SEGMENTS);
        let max_bytes = |log: &FetchLog| log.max_bytes.min(self.config.max_bytes).saturating_mul(FETCHES_A_LOOK).saturating_add(ahead);
        let query = |log: &FetchLog| SegmentQuery { log: log.log, from: log.from, max_bytes: max_bytes(log), max_segments };
        let views = match self.metastore.segments(&logs.iter().map(query).collect::<Vec<_>>()).await {
            Ok(views) => views,
            Err(error) => {
                let failed = FetchError::Unavailable(error.to_string());
                return logs.iter().map(|_| Err(failed.clone())).collect();
            }
        };
        let heads: Vec<(TopicPartition, Head)> =
            logs.iter().zip(&views).filter_map(|(log, view)| Some((log.log, view.as_ref()?.head))).collect();
        self.watermarks.learn(&heads, asked_at);
        logs.iter().zip(views).map(|(log, view)| in_range(log.from, view, asked_at)).collect()
    }
}

/// Those of `logs` of which nothing is known.
fn unknown(logs: &[FetchLog], known: &[Option<Sight>]) -> Vec<FetchLog> {
    logs.iter().zip(known).filter(|(_, known)| known.is_none()).map(|(log, _)| *log).collect()
}

fn in_range(from: Offset, view: Option<LogView>, asked_at: Instant) -> Look {
    let view = view.ok_or(FetchError::UnknownLog)?;
    let head = view.head;
    if from < head.log_start || from > head.high_watermark {
        Err(FetchError::OffsetOutOfRange { from, head })
    } else {
        Ok(Sight { view: Arc::new(view), asked_at })
    }
}

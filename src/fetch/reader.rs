//! Fetches: look where the data is, wait if there is too little, serve.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::allowance::{Allowance, RIDES_FROM};
use super::leftovers::{Leftovers, Sight};
use super::serve::{Order, Records, Served, Server};
use super::{FetchConfig, FetchError, FetchLog, FetchRequest, FetchResponse, Fetched, Watermarks};
use crate::metastore::{Log, LogView, SegmentQuery};
use crate::metrics::FetchMetrics;
use crate::store::ReadRange;
use crate::types::{Head, Offset, Segment, TopicPartition};

/// No fetch waits longer, whatever its client says.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// How often a fetch looks for a log's data anew, because an object is gone or the segments it knew hold nothing for it.
const LOOKS: usize = 3;
/// Segments asked for per log: the configured number is shared by the logs of a fetch, within these bounds. A metastore may read as many rows
/// as it is allowed, so more of them would be a burden when segments are large.
const FEWEST_SEGMENTS: usize = 8;
const MOST_SEGMENTS: usize = 128;
/// A look-up reaches this many times as far as its fetch can carry: for the fetches after it.
const FETCHES_A_LOOK: u64 = 16;

/// Reads logs for consumers.
pub struct Reader {
    pub(super) metastore: Arc<dyn Log>,
    pub(super) server: Server,
    leftovers: Leftovers,
    allowance: Allowance,
    pub(super) watermarks: Arc<Watermarks>,
    metrics: FetchMetrics,
    config: FetchConfig,
}

/// Whether what is known already counts as an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// A log known to be read to its end is not asked for, nor one of which enough is known.
    Known,
    Nothing,
}

/// What was found out about one log.
type Look = Result<Sight, FetchError>;

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Reader {
    /// [`Watermarks::spawn_refresh`] must run beside it, every [`FetchConfig::look_every`].
    #[must_use]
    pub fn new(
        metastore: Arc<dyn Log>,
        reads: Arc<dyn ReadRange>,
        watermarks: Arc<Watermarks>,
        metrics: FetchMetrics,
        config: FetchConfig,
    ) -> Self {
        let (server, allowance) = (Server::new(reads, &config), Allowance::new(config.memory_bytes, metrics.clone()));
        Reader { metastore, server, leftovers: Leftovers::default(), allowance, watermarks, metrics, config }
    }

    /// What a round of this agent has written; to be told before the watermarks are, which wake those who want it.
    pub fn learn(&self, heads: &[(TopicPartition, Head)], segments: &[Segment]) {
        self.leftovers.learn(heads, segments);
    }

    /// Answers when there are `min_bytes` to return, something is wrong with a log, or `max_wait` is over.
    pub async fn fetch(&self, mut request: FetchRequest) -> FetchResponse {
        request.max_bytes = request.max_bytes.min(self.config.max_bytes);
        let patient = request.min_bytes > 0 && !request.max_wait.is_zero();
        let mut looks = self.look(&request.logs, if patient { Trust::Known } else { Trust::Nothing }).await;
        if patient && self.missing(&request, &looks) > 0 {
            looks = self.wait(&request, looks).await;
        }
        // What is there, not what the client would take: many are woken by a few bytes.
        let there = request.logs.iter().zip(&looks).filter_map(|(log, look)| Some(self.server.available(&order(log, look.as_ref().ok()?))));
        let wanted = there.fold(0, u64::saturating_add).min(request.max_bytes);
        let mut portion = self.allowance.take(wanted);
        if portion.bytes() < wanted {
            request.max_bytes = portion.bytes();
        }
        let mut answers = self.serve(&request, looks).await;
        portion.resize(answers.iter().flatten().map(Fetched::bytes).sum());
        let mut pieces = answers.iter_mut().rev().flatten().flat_map(|fetched| fetched.records.iter_mut().rev());
        if let Some(last) = pieces.find(|piece| piece.len() >= RIDES_FROM) {
            portion.ride(last);
        }
        answers
    }

    /// Waits, looking again whenever enough may have come; gives what is known in the end.
    async fn wait(&self, request: &FetchRequest, mut looks: Vec<Look>) -> Vec<Look> {
        let began = Instant::now();
        let deadline = began + request.max_wait.min(LONGEST_WAIT);
        self.metrics.wait_began();
        let _ended = WaitEnd { metrics: &self.metrics, began };
        loop {
            let missing = self.missing(request, &looks);
            if missing == 0 || Instant::now() >= deadline || self.watermarks.is_stopping() {
                return looks;
            }
            let seen = request.logs.iter().zip(&looks).filter_map(|(log, look)| Some((log.log, look.as_ref().ok()?.view.head)));
            let waiting = self.watermarks.wait_for(&seen.collect::<Vec<_>>(), missing);
            waiting.until(deadline).await;
            drop(waiting);
            looks = self.look(&request.logs, Trust::Known).await;
        }
    }

    /// Bytes that must still come before `request` is answered; 0 if it is to be answered now.
    fn missing(&self, request: &FetchRequest, looks: &[Look]) -> u64 {
        let mut available = 0u64;
        for (log, look) in request.logs.iter().zip(looks) {
            let Ok(sight) = look else { return 0 };
            let view = &sight.view;
            // Where not all segments are known, there is more than can be seen from here.
            let last = view.segments.last().map_or(log.from, |segment| segment.last_offset.plus(1));
            if !view.segments.is_empty() && last < view.head.high_watermark {
                return 0;
            }
            available = available.saturating_add(self.server.available(&order(log, sight)));
        }
        let allowed = request.logs.iter().map(|log| log.max_bytes).fold(0, u64::saturating_add).min(request.max_bytes).max(1);
        request.min_bytes.min(allowed).saturating_sub(available)
    }

    /// Finds out about each log: from what is known where that is enough, else from the metastore, in one statement.
    async fn look(&self, logs: &[FetchLog], trust: Trust) -> Vec<Look> {
        let known = match trust {
            Trust::Known => self.known(logs),
            Trust::Nothing => logs.iter().map(|_| None).collect(),
        };
        let asked: Vec<FetchLog> = logs.iter().zip(&known).filter(|(_, known)| known.is_none()).map(|(log, _)| *log).collect();
        let mut answers = self.ask(&asked).await.into_iter();
        known.into_iter().map(|known| known.map_or_else(|| answers.next().unwrap_or(Err(FetchError::UnknownLog)), Ok)).collect()
    }

    /// Each log as the board or an earlier look-up knows it, if nothing more would be found by asking.
    fn known(&self, logs: &[FetchLog]) -> Vec<Option<Sight>> {
        // Twice the period, so that knowledge that is refreshed once in a period never counts as old.
        let age = self.config.look_every * 2;
        let heads: Vec<Option<Head>> = logs.iter().map(|log| self.watermarks.fresh(log.log, age)).collect();
        let lagging = logs.iter().zip(&heads).filter(|(log, head)| head.is_none_or(|head| head.high_watermark > log.from)).count();
        let ahead = self.server.ahead(lagging);
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
    async fn ask(&self, logs: &[FetchLog]) -> Vec<Look> {
        if logs.is_empty() {
            return Vec::new();
        }
        let asked_at = Instant::now();
        let ahead = self.server.ahead(logs.len());
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

    async fn serve(&self, request: &FetchRequest, looks: Vec<Look>) -> FetchResponse {
        let mut answers: FetchResponse = Vec::with_capacity(looks.len());
        let mut todo: Vec<(usize, Order)> = Vec::new();
        for (index, (log, look)) in request.logs.iter().zip(looks).enumerate() {
            answers.push(look.map(|sight| {
                todo.push((index, order(log, &sight)));
                answer(sight.view.head, Records::default())
            }));
        }
        let mut given = 0;
        for looks_left in (0..LOOKS).rev() {
            let (indexes, orders): (Vec<usize>, Vec<Order>) = todo.drain(..).unzip();
            let served = self.server.serve(&orders, request.max_bytes, given).await;
            let mut again = Vec::new();
            for ((index, order), served) in indexes.into_iter().zip(orders).zip(served) {
                if let Served::Records(Records { next: Some(next), .. }) = &served {
                    self.leftovers.keep(order.log, *next, order.sight.clone());
                }
                let (result, from) = outcome(&order, served, looks_left);
                given += result.as_ref().map_or(0, Fetched::bytes);
                answers[index] = result;
                again.extend(from.map(|from| (index, FetchLog { from, ..request.logs[index] })));
            }
            if again.is_empty() {
                break;
            }
            todo = self.look_again(&again, &mut answers).await;
        }
        answers
    }

    /// Asks the metastore for logs that are to be served once more.
    async fn look_again(&self, again: &[(usize, FetchLog)], answers: &mut FetchResponse) -> Vec<(usize, Order)> {
        let logs: Vec<FetchLog> = again.iter().map(|(_, log)| *log).collect();
        let mut todo = Vec::new();
        for ((index, log), look) in again.iter().zip(self.ask(&logs).await) {
            match look {
                Ok(sight) => todo.push((*index, order(log, &sight))),
                Err(error) => answers[*index] = Err(error),
            }
        }
        todo
    }
}

/// Says that a wait is over, also if the fetch was dropped.
struct WaitEnd<'a> {
    metrics: &'a FetchMetrics,
    began: Instant,
}

impl Drop for WaitEnd<'_> {
    fn drop(&mut self) {
        self.metrics.wait_ended(self.began.elapsed());
    }
}

fn order(log: &FetchLog, sight: &Sight) -> Order {
    Order { log: log.log, from: log.from, max_bytes: log.max_bytes, sight: sight.clone() }
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

fn answer(head: Head, records: Records) -> Fetched {
    Fetched { head, records: records.pieces, record_count: records.count, ranges_read: records.ranges }
}

/// The answer of one log, and from where it is to be looked for once more, if it is.
fn outcome(order: &Order, served: Served, looks_left: usize) -> (Result<Fetched, FetchError>, Option<Offset>) {
    let head = order.sight.view.head;
    match served {
        Served::Records(records) => (Ok(answer(head, records)), None),
        Served::Beyond(offset) => (Ok(answer(head, Records::default())), (looks_left > 0).then_some(offset)),
        // Perhaps compaction has moved the data. Once is enough to see the new segments.
        Served::Missing(error) => (Err(error), (looks_left == LOOKS - 1).then_some(order.from)),
        Served::Failed(error) => (Err(error), None),
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;

//! Fetches: look where the data is, wait if there is too little, serve.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::allowance::{Allowance, RIDES_FROM};
use super::leftovers::Sight;
use super::serve::{Order, Records, Served, Server};
use super::sights::{Look, Sights, Trust};
use super::{FetchConfig, FetchError, FetchLog, FetchRequest, FetchResponse, Fetched, Watermarks};
use crate::metastore::Log;
use crate::metrics::FetchMetrics;
use crate::store::ReadRange;
use crate::tasks::Tasks;
use crate::types::{Head, Offset, Segment, TopicPartition};

/// No fetch waits longer, whatever its client says.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// How often a fetch looks for a log's data anew, because an object is gone or the segments it knew hold nothing for it.
const LOOKS: usize = 3;

/// Reads logs for consumers.
pub struct Reader {
    pub(super) metastore: Arc<dyn Log>,
    pub(super) server: Server,
    sights: Arc<Sights>,
    allowance: Allowance,
    pub(super) watermarks: Arc<Watermarks>,
    metrics: FetchMetrics,
    config: FetchConfig,
}

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
        tasks: Tasks,
        config: FetchConfig,
    ) -> Self {
        let sights = Sights::new(Arc::clone(&metastore), Arc::clone(&watermarks), tasks, config);
        let (server, allowance) = (Server::new(reads, config), Allowance::new(config.memory_bytes, metrics.clone()));
        Reader { metastore, server, sights, allowance, watermarks, metrics, config }
    }

    /// What a round of this agent has written; to be told before the watermarks are, which wake those who want it.
    pub fn learn(&self, heads: &[(TopicPartition, Head)], segments: &[Segment]) {
        self.sights.learn(heads, segments);
    }

    /// Answers when there are `min_bytes` to return, something is wrong with a log, or `max_wait` is over.
    pub async fn fetch(&self, mut request: FetchRequest) -> FetchResponse {
        request.max_bytes = request.max_bytes.min(self.config.max_bytes);
        let patient = patient(&request);
        let mut looks = self.sights.look(&request.logs, if patient { Trust::Known } else { Trust::Nothing }).await;
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
            looks = self.sights.look(&request.logs, Trust::Known).await;
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

    async fn serve(&self, request: &FetchRequest, looks: Vec<Look>) -> FetchResponse {
        let mut answers: FetchResponse = Vec::with_capacity(looks.len());
        let mut todo: Vec<(usize, Order)> = Vec::new();
        for (index, (log, look)) in request.logs.iter().zip(looks).enumerate() {
            answers.push(look.map(|sight| {
                todo.push((index, order(log, &sight)));
                answer(sight.view.head, Records::default())
            }));
        }
        let (mut given, mut further) = (0, Vec::new());
        for looks_left in (0..LOOKS).rev() {
            let (indexes, orders): (Vec<usize>, Vec<Order>) = todo.drain(..).unzip();
            let served = self.server.serve(&orders, request.max_bytes, given).await;
            let mut again = Vec::new();
            for ((index, order), served) in indexes.into_iter().zip(orders).zip(served) {
                if let Served::Records(Records { next: Some(next), .. }) = &served {
                    self.sights.keep(order.log, *next, order.sight.clone());
                    further.push(FetchLog { from: *next, ..request.logs[index] });
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
        if patient(request) {
            self.sights.look_further(&further);
        }
        answers
    }

    /// Asks the metastore for logs that are to be served once more.
    async fn look_again(&self, again: &[(usize, FetchLog)], answers: &mut FetchResponse) -> Vec<(usize, Order)> {
        let logs: Vec<FetchLog> = again.iter().map(|(_, log)| *log).collect();
        let mut todo = Vec::new();
        for ((index, log), look) in again.iter().zip(self.sights.ask(&logs).await) {
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

/// Who does not wait wants to know what is there now.
fn patient(request: &FetchRequest) -> bool {
    request.min_bytes > 0 && !request.max_wait.is_zero()
}

fn order(log: &FetchLog, sight: &Sight) -> Order {
    Order { log: log.log, from: log.from, max_bytes: log.max_bytes, sight: sight.clone() }
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

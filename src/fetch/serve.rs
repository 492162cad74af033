//! From what the metastore knows of some logs to their record sets: plan, read side by side, assemble.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};

use super::ahead::ReadAhead;
use super::assemble::{Assembly, Step, Wanted};
use super::batches::Place;
use super::leftovers::Sight;
use super::plan::{self, Hungry, LogPlan, Read, Stall, Stalled};
use super::positions::Positions;
use super::{FetchConfig, FetchError};
use crate::records::batch::HEADER_LEN;
use crate::store::{ReadRange, StoreError};
use crate::types::{ByteRange, ObjectId, Offset, Segment, TopicPartition, fnv1a};

/// A log to be served: what is wanted of it and what is known of it.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub log: TopicPartition,
    pub from: Offset,
    pub max_bytes: u64,
    pub sight: Sight,
}

/// What became of one log.
#[derive(Debug)]
pub(super) enum Served {
    /// What was read; it may be nothing.
    Records(Records),
    /// The segments that were known hold nothing at or after the wanted offset: look for those from this one on.
    Beyond(Offset),
    /// An object was not there any more.
    Missing(FetchError),
    Failed(FetchError),
}

/// The record set of one log.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub pieces: Vec<Bytes>,
    pub count: u64,
    /// Ranges read for it.
    pub ranges: u64,
    /// The offset that follows these records, if there are any.
    pub next: Option<Offset>,
}

/// Reads and assembles.
#[derive(Debug)]
pub(super) struct Server {
    reads: Arc<dyn ReadRange>,
    positions: Positions,
    turns: AtomicU64,
    ahead: ReadAhead,
    config: FetchConfig,
}

/// One log while it is served.
#[derive(Debug)]
struct Progress<'a> {
    order: &'a Order,
    assembly: Assembly,
    share: u64,
    ranges: u64,
    /// The end of the last segment that was walked to its end.
    walked_to: Option<Offset>,
    stand: Stand,
}

/// Where the reading of one log stands.
#[derive(Debug)]
enum Stand {
    /// Everything that was read has been used.
    Open,
    /// The segment was not read to its end.
    Inside {
        segment: Segment,
        step: Step,
    },
    Failed(StoreError),
    Corrupt(FetchError),
}

impl Server {
    pub(super) fn new(reads: Arc<dyn ReadRange>, config: FetchConfig) -> Server {
        Server { reads, positions: Positions::default(), turns: AtomicU64::new(0), ahead: ReadAhead::default(), config }
    }

    /// Exactly the bytes of `range`. A store that gives fewer would have its readers ask for ever.
    pub(super) async fn read_range(&self, object: ObjectId, range: ByteRange) -> Result<Vec<Bytes>, StoreError> {
        let pieces = self.reads.read_range(object, range).await?;
        let len: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        if len == range.len { Ok(pieces) } else { Err(StoreError::OutOfRange { object, range }) }
    }

    /// Bytes that `order` could return, as far as its segments tell.
    pub(super) fn available(&self, order: &Order) -> u64 {
        self.hungry(order).available().min(order.max_bytes)
    }

    fn hungry<'a>(&self, order: &'a Order) -> Hungry<'a> {
        let first = order.sight.view.segments.iter().find(|segment| segment.last_offset >= order.from);
        let known = first.and_then(|segment| self.positions.find(segment, order.from));
        Hungry { from: order.from, max_bytes: order.max_bytes, segments: &order.sight.view.segments, known }
    }

    /// Serves `orders`, in the client's order, with at most `max_bytes` in all, of which `given` are spent.
    pub(super) async fn serve(&self, orders: &[Order], max_bytes: u64, given: u64) -> Vec<Served> {
        // Numbers in a row would give a client that takes turns with another one always the same turn.
        let turn = fnv1a(&self.turns.fetch_add(1, Ordering::Relaxed).to_be_bytes()) >> 16;
        let hungry: Vec<Hungry<'_>> = orders.iter().map(|order| self.hungry(order)).collect();
        let plans = plan::plan(&hungry, max_bytes.saturating_sub(given), turn);
        self.announce(&hungry, &plans);
        let mut jobs: Vec<(usize, Read)> =
            plans.iter().enumerate().flat_map(|(index, plan)| plan.reads.iter().map(move |read| (index, *read))).collect();
        let mut logs: Vec<Progress<'_>> = orders.iter().zip(&plans).map(|(order, plan)| Progress::new(order, plan.share)).collect();
        while !jobs.is_empty() {
            self.read(&jobs, &mut logs).await;
            let stalled: Vec<Stalled> = logs.iter().enumerate().filter_map(|(index, log)| log.stalled(index)).collect();
            let given = given + logs.iter().map(|log| log.assembly.len()).sum::<u64>();
            let granted = plan::grants(&stalled, given, max_bytes, turn);
            jobs = granted.into_iter().filter_map(|index| Some((index, logs.get_mut(index)?.go_on()?))).collect();
        }
        let served: Vec<Served> = logs.into_iter().map(|log| self.finish(log)).collect();
        self.note_lagging(orders, &hungry, &plans, &served);
        served
    }

    /// Counts who is further behind than is read ahead for one: they share.
    fn note_lagging(&self, orders: &[Order], hungry: &[Hungry<'_>], plans: &[LogPlan], served: &[Served]) {
        let ahead = self.config.ahead(reading(plans));
        let steps = orders.iter().zip(hungry).zip(plans).zip(served).filter_map(|(((order, hungry), plan), served)| {
            let Served::Records(Records { next: Some(next), .. }) = served else { return None };
            let lags = order.sight.is_cut() || hungry.available() > plan.share.saturating_add(ahead);
            Some((order.log, order.from, lags.then_some(*next)))
        });
        self.ahead.went_on(steps);
    }

    /// Tells the cache what readers that lag behind will want next: of each object all of it, so that logs that lie beside each other in it are read in one
    /// go. Older objects come first.
    fn announce(&self, hungry: &[Hungry<'_>], plans: &[LogPlan]) {
        let Some(first) = plans.iter().find_map(|plan| plan.reads.first()) else { return };
        let logs = reading(plans);
        let bytes = self.ahead.share(logs, self.config.ahead(logs), self.reads.room_ahead(first.segment.object));
        if bytes == 0 {
            return;
        }
        let mut ahead: BTreeMap<ObjectId, Vec<ByteRange>> = BTreeMap::new();
        for (log, plan) in hungry.iter().zip(plans).filter(|(_, plan)| !plan.reads.is_empty()) {
            for (object, range) in plan::ahead(log, plan, bytes) {
                ahead.entry(object).or_default().push(range);
            }
        }
        for (object, ranges) in &ahead {
            self.reads.will_need(*object, ranges);
        }
    }

    /// Reads side by side and adds what came to its logs, in order.
    async fn read(&self, jobs: &[(usize, Read)], logs: &mut [Progress<'_>]) {
        let reads: Vec<_> = jobs.iter().map(|(index, read)| self.read_one(*index, *read)).collect();
        let mut done = stream::iter(reads).buffered(self.config.reads_at_once.max(1));
        while let Some((index, read, bytes)) = done.next().await {
            if let Some(log) = logs.get_mut(index) {
                log.add(&read, bytes);
            }
        }
    }

    async fn read_one(&self, index: usize, read: Read) -> (usize, Read, Result<Vec<Bytes>, StoreError>) {
        (index, read, self.read_range(read.segment.object, read.range()).await)
    }

    fn finish(&self, log: Progress<'_>) -> Served {
        if log.assembly.len() == 0 {
            return log.without_records();
        }
        let mut next = log.walked_to;
        if let Stand::Inside { segment, step: Step::Full { place, .. } | Step::Short { place } } = &log.stand {
            self.positions.remember(segment, *place);
            next = Some(place.offset);
        }
        // What was read before something failed is good; the failure will be met again by the next fetch.
        Served::Records(Records { count: log.assembly.records(), ranges: log.ranges, next, pieces: log.assembly.finish() })
    }
}

/// Logs of which something is read.
fn reading(plans: &[LogPlan]) -> usize {
    plans.iter().filter(|plan| !plan.reads.is_empty()).count()
}

impl<'a> Progress<'a> {
    fn new(order: &'a Order, share: u64) -> Self {
        let wanted = Wanted { from: order.from, until: order.sight.view.head.high_watermark, limit: share };
        Progress { order, assembly: Assembly::new(wanted), share, ranges: 0, walked_to: None, stand: Stand::Open }
    }

    fn add(&mut self, read: &Read, bytes: Result<Vec<Bytes>, StoreError>) {
        self.ranges += 1;
        // Behind a gap nothing may follow.
        if !matches!(self.stand, Stand::Open) {
            return;
        }
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                self.stand = Stand::Failed(error);
                return;
            }
        };
        match self.assembly.add(&read.segment, read.place, bytes) {
            Ok(Step::Finished) => self.walked_to = Some(read.segment.last_offset.plus(1)),
            Ok(step) => self.stand = Stand::Inside { segment: read.segment, step },
            Err(error) => self.stand = Stand::Corrupt(error),
        }
    }

    /// The first segment after those that were walked to their end.
    fn next_segment(&self) -> Option<Segment> {
        let walked_to = self.walked_to?;
        self.order.sight.view.segments.iter().find(|segment| segment.base_offset >= walked_to).copied()
    }

    /// This log, if it has given nothing but could.
    fn stalled(&self, index: usize) -> Option<Stalled> {
        if self.assembly.len() > 0 {
            return None;
        }
        let stall = match &self.stand {
            Stand::Open => self.next_segment().map(|_| Stall::Searching),
            Stand::Inside { step: Step::Short { .. }, .. } => Some(Stall::Searching),
            Stand::Inside { step: Step::Full { need, .. }, .. } => Some(Stall::TooLarge(*need)),
            Stand::Inside { step: Step::Ended | Step::Finished, .. } | Stand::Failed(_) | Stand::Corrupt(_) => None,
        };
        stall.map(|stall| Stalled { index, stall })
    }

    /// What a stalled log reads next.
    fn go_on(&mut self) -> Option<Read> {
        let from = self.order.from;
        let read = match &self.stand {
            Stand::Open => self.next_segment().map(|segment| Read::again(segment, Place::start_of(&segment), from, self.share, 0)),
            Stand::Inside { segment, step: Step::Short { place } } => {
                Some(Read::again(*segment, *place, from, self.share, HEADER_LEN as u64))
            }
            Stand::Inside { segment, step: Step::Full { place, need } } => {
                self.assembly.allow(*need);
                Some(Read::again(*segment, *place, from, 0, *need))
            }
            Stand::Inside { step: Step::Ended | Step::Finished, .. } | Stand::Failed(_) | Stand::Corrupt(_) => None,
        };
        self.stand = if read.is_some() { Stand::Open } else { return None };
        read
    }

    /// What to say of a log that has given nothing.
    fn without_records(self) -> Served {
        let Progress { order, walked_to, ranges, stand, .. } = self;
        match stand {
            Stand::Failed(error @ StoreError::NotFound(_)) => Served::Missing(store_failed(&error)),
            Stand::Failed(error) => Served::Failed(store_failed(&error)),
            Stand::Corrupt(error) => Served::Failed(error),
            Stand::Open => match walked_to.filter(|offset| *offset < order.sight.view.head.high_watermark) {
                Some(offset) => Served::Beyond(offset),
                None => Served::Records(Records { ranges, ..Records::default() }),
            },
            Stand::Inside { .. } => Served::Records(Records { ranges, ..Records::default() }),
        }
    }
}

/// What a store's failure means for a reader.
pub(super) fn store_failed(error: &StoreError) -> FetchError {
    match error {
        StoreError::OutOfRange { .. } => FetchError::Corrupt(error.to_string()),
        StoreError::NotFound(_) | StoreError::Full(_) | StoreError::Refused(_) | StoreError::Unavailable(_) => {
            FetchError::Unavailable(error.to_string())
        }
    }
}

//! One round: pending events and parked batches in, offsets and verdicts out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    Admission, BatchVerdict, Decisions, ObjectVerdict, ParkedBatch, PendingEvent, ProducerKey, ProducerState, RejectReason, Rules,
    Snapshot, admit,
};
use crate::types::{BatchSummary, ByteRange, Head, ObjectId, Offset, ProducerStamp, Run, Segment, Timestamp, TopicPartition};

/// What a metastore must load before a decision: the logs and producers that events and parked batches name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    pub logs: BTreeSet<TopicPartition>,
    pub producers: BTreeSet<ProducerKey>,
}

/// What `events` and `parked` touch.
#[must_use]
pub fn touched(events: &[PendingEvent], parked: &[ParkedBatch]) -> Touched {
    let mut touched = Touched::default();
    let runs = events.iter().filter_map(|e| e.runs.as_ref().ok()).flatten();
    for run in runs {
        touched.logs.insert(run.log);
        touched.producers.extend(run.batches.iter().filter_map(|b| b.producer).map(|p| (run.log, p.id)));
    }
    for batch in parked {
        touched.logs.insert(batch.log);
        touched.producers.extend(batch.summary.producer.map(|p| (batch.log, p.id)));
    }
    touched
}

/// Decides everything in `snapshot`: events in their order; after each batch of an idempotent producer the parked ones that
/// follow it; at the end the parked ones that are due.
#[must_use]
pub fn decide(snapshot: Snapshot, rules: &Rules) -> Decisions {
    let mut round = Decider::new(snapshot.heads, snapshot.producers, snapshot.now, *rules);
    round.take_parked(snapshot.parked, snapshot.parked_verdicts);
    for event in snapshot.events {
        match event.runs {
            Ok(runs) => round.decide_event(event.object, &runs),
            Err(reason) => round.decisions.set_aside.push((event.object, reason)),
        }
    }
    round.settle_due();
    round.finish()
}

/// One batch and where it is.
#[derive(Debug, Clone, Copy)]
struct Placed {
    log: TopicPartition,
    object: ObjectId,
    run: u32,
    batch: u32,
    start: u64,
    summary: BatchSummary,
}

#[derive(Debug)]
struct Waiting {
    placed: Placed,
    deadline: Timestamp,
    /// False for one parked in this very round.
    stored: bool,
}

#[derive(Debug)]
struct Decider {
    heads: HashMap<TopicPartition, Head>,
    producers: HashMap<ProducerKey, ProducerState>,
    changed_producers: BTreeSet<ProducerKey>,
    /// By log and producer; each list oldest first.
    waiting: BTreeMap<ProducerKey, Vec<Waiting>>,
    verdicts: BTreeMap<ObjectId, ObjectVerdict>,
    /// Which of `verdicts` say something new, in order.
    decided: Vec<ObjectId>,
    /// The segment that the last accepted batch of each log belongs to: an index into `decisions.segments`.
    open: HashMap<TopicPartition, usize>,
    decisions: Decisions,
    now: Timestamp,
    rules: Rules,
}

impl Decider {
    fn new(heads: HashMap<TopicPartition, Head>, producers: HashMap<ProducerKey, ProducerState>, now: Timestamp, rules: Rules) -> Self {
        Decider {
            heads,
            producers,
            changed_producers: BTreeSet::new(),
            waiting: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            decided: Vec::new(),
            open: HashMap::new(),
            decisions: Decisions::default(),
            now,
            rules,
        }
    }

    fn take_parked(&mut self, parked: Vec<ParkedBatch>, verdicts: HashMap<ObjectId, ObjectVerdict>) {
        self.verdicts.extend(verdicts);
        for p in parked {
            let ParkedBatch { log, object, run, batch, start, summary, deadline } = p;
            let placed = Placed { log, object, run, batch, start, summary };
            match summary.producer {
                Some(stamp) => self.waiting.entry((log, stamp.id)).or_default().push(Waiting { placed, deadline, stored: true }),
                // Only batches with a producer are ever parked; one without has nothing to wait for.
                None => self.settle_stored(placed, BatchVerdict::Rejected(RejectReason::OutOfOrderSequence)),
            }
        }
    }

    fn decide_event(&mut self, object: ObjectId, runs: &[Run]) {
        let verdict = ObjectVerdict { runs: runs.iter().map(|r| vec![BatchVerdict::Parked; r.batches.len()]).collect() };
        self.verdicts.insert(object, verdict);
        self.decided.push(object);
        for (run_index, run) in (0..).zip(runs) {
            let mut start = run.start;
            for (batch_index, summary) in (0..).zip(&run.batches) {
                self.decide_batch(Placed { log: run.log, object, run: run_index, batch: batch_index, start, summary: *summary });
                start += u64::from(summary.len);
            }
        }
    }

    fn decide_batch(&mut self, placed: Placed) {
        if !self.heads.contains_key(&placed.log) {
            self.note(&placed, BatchVerdict::Rejected(RejectReason::UnknownLog));
            return;
        }
        let Some(stamp) = placed.summary.producer else {
            let base_offset = self.append(&placed);
            self.note(&placed, BatchVerdict::Accepted { base_offset });
            return;
        };
        match self.admission(&placed, &stamp) {
            Admission::Early | Admission::EarlyUnknown => self.park(placed, &stamp),
            settled => {
                self.settle(&placed, &stamp, settled);
                self.drain((placed.log, stamp.id));
            }
        }
    }

    fn admission(&self, placed: &Placed, stamp: &ProducerStamp) -> Admission {
        admit(self.producers.get(&(placed.log, stamp.id)), stamp, placed.summary.record_count)
    }

    fn park(&mut self, placed: Placed, stamp: &ProducerStamp) {
        let of_log =
            self.waiting.range((placed.log, crate::types::ProducerId(i64::MIN))..=(placed.log, crate::types::ProducerId(i64::MAX)));
        if of_log.map(|(_, list)| list.len()).sum::<usize>() >= self.rules.max_parked {
            self.note(&placed, BatchVerdict::Rejected(RejectReason::MissingPredecessor));
            return;
        }
        let waiting = Waiting { placed, deadline: self.now.plus(self.rules.park_for), stored: false };
        self.waiting.entry((placed.log, stamp.id)).or_default().push(waiting);
    }

    /// Settles a batch that need not wait (any longer): an early one is refused, unless nothing is known of its producer, which
    /// then begins here, as in Kafka.
    fn settle(&mut self, placed: &Placed, stamp: &ProducerStamp, admission: Admission) {
        let verdict = match admission {
            Admission::Accept | Admission::EarlyUnknown => {
                let base_offset = self.append(placed);
                let key = (placed.log, stamp.id);
                let state = ProducerState::after(self.producers.get(&key), stamp, &placed.summary, base_offset, self.now);
                self.producers.insert(key, state);
                self.changed_producers.insert(key);
                BatchVerdict::Accepted { base_offset }
            }
            Admission::Duplicate(base_offset) => BatchVerdict::Duplicate { base_offset },
            Admission::OldDuplicate => BatchVerdict::Rejected(RejectReason::DuplicateSequence),
            // After OUT_OF_ORDER_SEQUENCE_NUMBER librdkafka begins a new epoch for all partitions, and repeats under it what other logs hold already and
            // was not acknowledged (confluentinc/librdkafka issue 4953). What is missing may still be sent again, also the beginning of an epoch.
            Admission::Early => BatchVerdict::Rejected(RejectReason::MissingPredecessor),
            Admission::TooLate => BatchVerdict::Rejected(RejectReason::OutOfOrderSequence),
            Admission::Fenced => BatchVerdict::Rejected(RejectReason::Fenced),
        };
        self.note(placed, verdict);
    }

    /// Settles whatever waits on `key` and need not wait any longer.
    fn drain(&mut self, key: ProducerKey) {
        while let Some(list) = self.waiting.get(&key) {
            let ready = list.iter().enumerate().find_map(|(i, w)| {
                let stamp = w.placed.summary.producer?;
                match self.admission(&w.placed, &stamp) {
                    Admission::Early | Admission::EarlyUnknown => None,
                    admission => Some((i, stamp, admission)),
                }
            });
            let Some((index, stamp, admission)) = ready else { return };
            self.settle_waiting(key, index, &stamp, admission);
        }
    }

    fn settle_waiting(&mut self, key: ProducerKey, index: usize, stamp: &ProducerStamp, admission: Admission) {
        let Some(list) = self.waiting.get_mut(&key) else { return };
        let waiting = list.remove(index);
        if list.is_empty() {
            self.waiting.remove(&key);
        }
        if waiting.stored {
            self.forget_parked(&waiting.placed);
        }
        self.settle(&waiting.placed, stamp, admission);
    }

    fn settle_stored(&mut self, placed: Placed, verdict: BatchVerdict) {
        self.forget_parked(&placed);
        self.note(&placed, verdict);
    }

    fn forget_parked(&mut self, placed: &Placed) {
        self.decisions.unpark.push((placed.object, placed.run, placed.batch));
        if !self.decided.contains(&placed.object) {
            self.decided.push(placed.object);
        }
    }

    /// Ends the waiting of every batch whose deadline has passed or whose log is gone. Of an unknown producer the lowest sequence goes first, so that
    /// what else waits can follow it.
    fn settle_due(&mut self) {
        let keys: Vec<ProducerKey> = self.waiting.keys().copied().collect();
        for key in keys {
            while let Some(list) = self.waiting.get(&key) {
                let gone = !self.heads.contains_key(&key.0);
                if !gone && !list.iter().any(|w| w.deadline <= self.now) {
                    break;
                }
                let Some((index, stamp)) = lowest(list, gone, self.now, self.producers.contains_key(&key)) else { break };
                if gone {
                    let placed = self.waiting.get_mut(&key).map(|list| list.remove(index).placed);
                    if let Some(placed) = placed {
                        self.settle_stored(placed, BatchVerdict::Rejected(RejectReason::UnknownLog));
                    }
                    self.waiting.retain(|_, list| !list.is_empty());
                    continue;
                }
                let admission = self.waiting.get(&key).map(|list| self.admission(&list[index].placed, &stamp));
                if let Some(admission) = admission {
                    self.settle_waiting(key, index, &stamp, admission);
                    self.drain(key);
                }
            }
        }
    }

    /// Gives the batch its offsets and adds it to its log's segments.
    fn append(&mut self, placed: &Placed) -> Offset {
        let summary = &placed.summary;
        let head = self.heads.entry(placed.log).or_default();
        let base_offset = head.high_watermark;
        head.high_watermark = base_offset.plus(summary.record_count);
        head.last_stable = head.high_watermark;
        head.max_timestamp = head.max_timestamp.max(summary.max_timestamp);
        head.bytes += u64::from(summary.len);
        let (head, last_offset) = (*head, Offset(head.high_watermark.0 - 1));
        self.decisions.heads.insert(placed.log, head);
        let open = self.open.get(&placed.log).and_then(|i| self.decisions.segments.get_mut(*i));
        // Whether there are as many records as a compressed batch says is nobody's knowledge.
        let fits = |s: &&mut Segment| s.record_count.checked_add(summary.record_count).is_some_and(|sum| sum <= i32::MAX.unsigned_abs());
        if let Some(segment) = open.filter(|s| s.object == placed.object && s.range.end() == placed.start).filter(fits) {
            segment.last_offset = last_offset;
            segment.range.len += u64::from(summary.len);
            segment.record_count += summary.record_count;
            segment.max_timestamp = segment.max_timestamp.max(summary.max_timestamp);
            segment.max_timestamp_so_far = head.max_timestamp;
            return base_offset;
        }
        self.open.insert(placed.log, self.decisions.segments.len());
        self.decisions.segments.push(Segment {
            log: placed.log,
            base_offset,
            last_offset,
            object: placed.object,
            range: ByteRange { start: placed.start, len: u64::from(summary.len) },
            record_count: summary.record_count,
            max_timestamp: summary.max_timestamp,
            max_timestamp_so_far: head.max_timestamp,
            level: 0,
        });
        base_offset
    }

    fn note(&mut self, placed: &Placed, verdict: BatchVerdict) {
        let runs = self.verdicts.get_mut(&placed.object).and_then(|v| v.runs.get_mut(placed.run as usize));
        if let Some(slot) = runs.and_then(|run| run.get_mut(placed.batch as usize)) {
            *slot = verdict;
        }
    }

    fn finish(mut self) -> Decisions {
        for waiting in self.waiting.into_values().flatten().filter(|w| !w.stored) {
            let Placed { log, object, run, batch, start, summary } = waiting.placed;
            self.decisions.park.push(ParkedBatch { log, object, run, batch, start, summary, deadline: waiting.deadline });
        }
        for object in self.decided {
            if let Some(verdict) = self.verdicts.remove(&object) {
                self.decisions.verdicts.push((object, verdict));
            }
        }
        for key in self.changed_producers {
            if let Some(state) = self.producers.remove(&key) {
                self.decisions.producers.push((key, state));
            }
        }
        self.decisions
    }
}

/// Which batch of one producer is settled next: any, if its log is gone; the first one due, if the producer is known; of an
/// unknown one the batch that comes first by epoch and sequence.
fn lowest(list: &[Waiting], gone: bool, now: Timestamp, known: bool) -> Option<(usize, ProducerStamp)> {
    let stamped = list.iter().enumerate().filter_map(|(i, w)| w.placed.summary.producer.map(|p| (i, p, w.deadline)));
    let mut candidates = stamped.filter(|(_, _, deadline)| gone || !known || *deadline <= now);
    let first = candidates.next()?;
    let (index, stamp, _) =
        if known || gone { first } else { candidates.fold(first, |best, next| if comes_before(&next.1, &best.1) { next } else { best }) };
    Some((index, stamp))
}

fn comes_before(a: &ProducerStamp, b: &ProducerStamp) -> bool {
    match a.epoch.cmp(&b.epoch) {
        std::cmp::Ordering::Less => true,
        std::cmp::Ordering::Greater => false,
        std::cmp::Ordering::Equal => b.base_sequence.distance_from(a.base_sequence) < 1 << 30 && a.base_sequence != b.base_sequence,
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::types::{ProducerEpoch, ProducerId, Sequence, TopicId};

const RULES: Rules = Rules { park_for: Duration::from_millis(100), max_parked: 10 };

fn log(partition: i32) -> TopicPartition {
    TopicPartition::new(TopicId([1; 16]), partition)
}

fn plain(count: u32) -> BatchSummary {
    BatchSummary { len: 61 + count, record_count: count, base_timestamp: Timestamp(5), max_timestamp: Timestamp(5), producer: None }
}

fn stamped(id: i64, epoch: i16, sequence: i32, count: u32) -> BatchSummary {
    let producer =
        ProducerStamp { id: ProducerId(id), epoch: ProducerEpoch(epoch), base_sequence: Sequence(sequence), transactional: false };
    BatchSummary { producer: Some(producer), ..plain(count) }
}

fn event(number: u8, runs: Vec<(i32, Vec<BatchSummary>)>) -> PendingEvent {
    let mut start = 0;
    let runs = runs
        .into_iter()
        .map(|(partition, batches)| {
            let run = Run { log: log(partition), start, batches };
            start += run.len();
            run
        })
        .collect();
    PendingEvent { object: ObjectId([number; 16]), object_bytes: start, runs: Ok(runs) }
}

/// A metastore in a few lines: applies decisions to what the next snapshot will show.
#[derive(Default)]
struct Store {
    heads: HashMap<TopicPartition, Head>,
    producers: HashMap<ProducerKey, ProducerState>,
    parked: Vec<ParkedBatch>,
    verdicts: HashMap<ObjectId, ObjectVerdict>,
    segments: Vec<Segment>,
    now: Timestamp,
}

impl Store {
    fn with_partitions(count: i32) -> Store {
        Store { heads: (0..count).map(|p| (log(p), Head::default())).collect(), ..Store::default() }
    }

    fn round(&mut self, events: Vec<PendingEvent>) -> Decisions {
        let touched = touched(&events, &self.parked);
        let snapshot = Snapshot {
            events,
            parked: self.parked.clone(),
            parked_verdicts: self.parked.iter().map(|p| (p.object, self.verdicts[&p.object].clone())).collect(),
            heads: self.heads.iter().filter(|(l, _)| touched.logs.contains(l)).map(|(l, h)| (*l, *h)).collect(),
            producers: self.producers.iter().filter(|(k, _)| touched.producers.contains(k)).map(|(k, s)| (*k, s.clone())).collect(),
            now: self.now,
        };
        let decisions = decide(snapshot, &RULES);
        self.heads.extend(&decisions.heads);
        self.producers.extend(decisions.producers.clone());
        self.parked.retain(|p| !decisions.unpark.contains(&(p.object, p.run, p.batch)));
        self.parked.extend(&decisions.park);
        self.verdicts.extend(decisions.verdicts.clone());
        self.segments.extend(&decisions.segments);
        decisions
    }

    fn verdict(&self, number: u8, run: usize, batch: usize) -> BatchVerdict {
        self.verdicts[&ObjectId([number; 16])].runs[run][batch]
    }
}

fn at(offset: i64) -> BatchVerdict {
    BatchVerdict::Accepted { base_offset: Offset(offset) }
}

#[test]
fn batches_of_a_run_get_consecutive_offsets_and_one_segment() {
    let mut store = Store::with_partitions(2);
    store.round(vec![event(1, vec![(0, vec![plain(3), plain(2)]), (1, vec![plain(4)])]), event(2, vec![(0, vec![plain(1)])])]);
    assert_eq!((store.verdict(1, 0, 0), store.verdict(1, 0, 1), store.verdict(1, 1, 0)), (at(0), at(3), at(0)));
    assert_eq!(store.verdict(2, 0, 0), at(5));
    let spans: Vec<_> = store.segments.iter().map(|s| (s.log.partition.0, s.base_offset.0, s.last_offset.0, s.range.len)).collect();
    assert_eq!(spans, [(0, 0, 4, 127), (1, 0, 3, 65), (0, 5, 5, 62)]);
    assert_eq!(store.heads[&log(0)].high_watermark, Offset(6));
}

#[test]
fn a_deleted_topic_refuses_its_run_and_no_other() {
    let mut store = Store::with_partitions(1);
    store.round(vec![event(1, vec![(9, vec![plain(1)]), (0, vec![plain(1)])])]);
    assert_eq!(store.verdict(1, 0, 0), BatchVerdict::Rejected(RejectReason::UnknownLog));
    assert_eq!(store.verdict(1, 1, 0), at(0));
}

#[test]
fn an_unreadable_event_is_set_aside_and_stops_nobody() {
    let mut store = Store::with_partitions(1);
    let broken = PendingEvent { object: ObjectId([9; 16]), object_bytes: 1, runs: Err("garbage".to_owned()) };
    let decisions = store.round(vec![broken, event(1, vec![(0, vec![plain(1)])])]);
    assert_eq!(decisions.set_aside, [(ObjectId([9; 16]), "garbage".to_owned())]);
    assert_eq!(store.verdict(1, 0, 0), at(0));
}

#[test]
fn a_retry_gets_its_original_offset_also_within_one_round() {
    let mut store = Store::with_partitions(1);
    store.round(vec![event(1, vec![(0, vec![stamped(7, 0, 0, 3)])]), event(2, vec![(0, vec![stamped(7, 0, 0, 3), stamped(7, 0, 3, 2)])])]);
    assert_eq!(store.verdict(2, 0, 0), BatchVerdict::Duplicate { base_offset: Offset(0) });
    assert_eq!(store.verdict(2, 0, 1), at(3));
    // The duplicate lies in the object, but no segment shows it.
    assert_eq!(store.segments[1].range.start, 64);
}

#[test]
fn a_batch_that_came_too_early_waits_for_its_predecessor() {
    let mut store = Store::with_partitions(1);
    store.round(vec![event(1, vec![(0, vec![stamped(7, 0, 0, 1)])]), event(2, vec![(0, vec![stamped(7, 0, 2, 1), plain(5)])])]);
    assert_eq!(store.verdict(2, 0, 0), BatchVerdict::Parked);
    assert_eq!(store.verdict(2, 0, 1), at(1));
    store.round(vec![event(3, vec![(0, vec![stamped(7, 0, 1, 1)])])]);
    assert_eq!((store.verdict(3, 0, 0), store.verdict(2, 0, 0)), (at(6), at(7)));
    assert!(store.parked.is_empty());
}

#[test]
fn waiting_ends_at_the_deadline() {
    let mut store = Store::with_partitions(1);
    store.round(vec![event(1, vec![(0, vec![stamped(7, 0, 0, 1)])]), event(2, vec![(0, vec![stamped(7, 0, 2, 1)])])]);
    store.now = Timestamp(99);
    store.round(vec![]);
    assert_eq!(store.verdict(2, 0, 0), BatchVerdict::Parked);
    store.now = Timestamp(100);
    store.round(vec![]);
    assert_eq!(store.verdict(2, 0, 0), BatchVerdict::Rejected(RejectReason::MissingPredecessor));
}

#[test]
fn an_unknown_producer_begins_with_its_lowest_sequence_after_waiting() {
    let mut store = Store::with_partitions(1);
    store.round(vec![event(1, vec![(0, vec![stamped(7, 0, 20, 10)])]), event(2, vec![(0, vec![stamped(7, 0, 10, 10)])])]);
    assert!(store.segments.is_empty());
    store.now = Timestamp(100);
    store.round(vec![]);
    assert_eq!((store.verdict(2, 0, 0), store.verdict(1, 0, 0)), (at(0), at(10)));
    // What was there before nobody knows: it must not be called a duplicate.
    store.round(vec![event(3, vec![(0, vec![stamped(7, 0, 0, 10)])])]);
    assert_eq!(store.verdict(3, 0, 0), BatchVerdict::Rejected(RejectReason::OutOfOrderSequence));
}

#[test]
fn a_newer_epoch_fences_what_waits() {
    let mut store = Store::with_partitions(1);
    store.round(vec![event(1, vec![(0, vec![stamped(7, 0, 0, 1)])]), event(2, vec![(0, vec![stamped(7, 0, 5, 1)])])]);
    store.round(vec![event(3, vec![(0, vec![stamped(7, 1, 0, 1)])])]);
    assert_eq!(store.verdict(2, 0, 0), BatchVerdict::Rejected(RejectReason::Fenced));
}

#[test]
fn parking_is_bounded() {
    let mut store = Store::with_partitions(1);
    store.round(vec![event(1, vec![(0, vec![stamped(7, 0, 0, 1)])])]);
    store.round(vec![event(2, vec![(0, (0..11).map(|i| stamped(7, 0, 5 + i, 1)).collect())])]);
    assert_eq!(store.parked.len(), 10);
    assert_eq!(store.verdict(2, 0, 10), BatchVerdict::Rejected(RejectReason::MissingPredecessor));
}

#[test]
fn what_waits_for_a_deleted_topic_is_refused() {
    let mut store = Store::with_partitions(1);
    store.round(vec![event(1, vec![(0, vec![stamped(7, 0, 5, 1)])])]);
    store.heads.clear();
    store.round(vec![]);
    assert_eq!(store.verdict(1, 0, 0), BatchVerdict::Rejected(RejectReason::UnknownLog));
    assert!(store.parked.is_empty());
}

proptest! {
    /// Producers send their batches once or twice, in an order shuffled within a window, spread over rounds.
    #[test]
    fn shuffled_and_repeated_batches_end_up_once_and_in_order(
        sends in prop::collection::vec((0i64..3, 1u32..4), 1..30),
        shuffle in prop::collection::vec(0usize..4, 60),
        cuts in prop::collection::vec(1usize..5, 60),
        plain_between: bool,
    ) {
        let mut next = [0i32; 3];
        let mut batches = Vec::new();
        for (id, count) in sends {
            let batch = stamped(id, 0, next[id as usize], count);
            next[id as usize] += count as i32;
            batches.push(batch);
            batches.push(batch);
        }
        for i in 0..batches.len() {
            let j = (i + shuffle[i % shuffle.len()]).min(batches.len() - 1);
            batches.swap(i, j);
        }
        let mut store = Store::with_partitions(1);
        let (mut number, mut cuts) = (0u8, cuts.into_iter().cycle());
        let mut rest = &batches[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
            let events = now.iter().map(|b| {
                number += 1;
                event(number, vec![(0, if plain_between { vec![plain(1), *b] } else { vec![*b] })])
            }).collect();
            store.round(events);
            rest = later;
        }
        let mut end = 0;
        for segment in &store.segments {
            prop_assert_eq!(segment.base_offset.0, end);
            end = segment.last_offset.0 + 1;
        }
        prop_assert_eq!(store.heads[&log(0)].high_watermark.0, end);
        prop_assert!(store.parked.is_empty());
        let produced: i64 = next.iter().map(|n| i64::from(*n)).sum();
        let filler = if plain_between { batches.len() as i64 } else { 0 };
        prop_assert_eq!(end, produced + filler);
        // In the order of offsets, each producer's sequences rise.
        let mut accepted: Vec<_> = (1..=number).filter_map(|n| match *store.verdicts[&ObjectId([n; 16])].runs[0].last()? {
            BatchVerdict::Accepted { base_offset } => Some((base_offset, batches[usize::from(n) - 1])),
            BatchVerdict::Duplicate { .. } | BatchVerdict::Rejected(RejectReason::DuplicateSequence) => None,
            other => panic!("{other:?}"),
        }).collect();
        accepted.sort_by_key(|(offset, _)| *offset);
        let mut seen = [0i32; 3];
        for (_, batch) in accepted {
            let stamp = batch.producer.expect("stamped");
            prop_assert_eq!(stamp.base_sequence.0, seen[stamp.id.0 as usize]);
            seen[stamp.id.0 as usize] += batch.record_count as i32;
        }
    }
}

/// How many records a compressed batch holds is what its client says.
#[test]
fn record_counts_that_do_not_add_up_make_a_new_segment() {
    let mut store = Store::with_partitions(1);
    let most = BatchSummary { len: 100, ..plain(i32::MAX as u32) };
    store.round(vec![event(1, vec![(0, vec![most, most, most, plain(1)])])]);
    let counts: Vec<u32> = store.segments.iter().map(|segment| segment.record_count).collect();
    assert_eq!(counts, [i32::MAX as u32, i32::MAX as u32, i32::MAX as u32, 1]);
}

/// Its beginning may still be sent again.
#[test]
fn a_new_epoch_that_does_not_begin_at_zero_has_no_predecessor() {
    let mut store = Store::with_partitions(1);
    store.round(vec![event(1, vec![(0, vec![stamped(7, 0, 0, 1)])]), event(2, vec![(0, vec![stamped(7, 1, 4, 1)])])]);
    store.now = Timestamp(100);
    store.round(vec![]);
    assert_eq!(store.verdict(2, 0, 0), BatchVerdict::Rejected(RejectReason::MissingPredecessor));
}

proptest! {
    /// Some batches are refused before they take a place, those behind them arrive, in any order. Their producer sends all again, in order, when all are
    /// answered.
    #[test]
    fn a_gap_is_not_for_good_and_heals_when_all_is_sent_again(
        counts in prop::collection::vec(1u32..4, 2..20),
        arrives in prop::collection::vec(any::<bool>(), 20),
        shuffle in prop::collection::vec(0usize..6, 20),
    ) {
        let mut next = 0;
        let batch = |count: &u32| {
            let batch = stamped(7, 0, next, *count);
            next += *count as i32;
            batch
        };
        let batches: Vec<_> = counts.iter().map(batch).collect();
        let mut store = Store::with_partitions(1);
        store.round(vec![event(0, vec![(0, vec![batches[0]])])]);
        let mut sent: Vec<usize> = (1..batches.len()).filter(|n| arrives[*n]).collect();
        for (i, distance) in shuffle.into_iter().enumerate().take(sent.len()) {
            let j = (i + distance).min(sent.len() - 1);
            sent.swap(i, j);
        }
        for n in &sent {
            store.round(vec![event(*n as u8, vec![(0, vec![batches[*n]])])]);
        }
        store.now = Timestamp(200);
        store.round(vec![]);
        prop_assert!(store.parked.is_empty());
        for n in &sent {
            let verdict = store.verdict(*n as u8, 0, 0);
            let expected = matches!(verdict, BatchVerdict::Accepted { .. } | BatchVerdict::Rejected(RejectReason::MissingPredecessor));
            prop_assert!(expected, "{verdict:?}");
        }
        for (again, batch) in (101..).zip(&batches[1..]) {
            store.round(vec![event(again, vec![(0, vec![*batch])])]);
            let verdict = store.verdict(again, 0, 0);
            let is_there = matches!(
                verdict,
                BatchVerdict::Accepted { .. } | BatchVerdict::Duplicate { .. } | BatchVerdict::Rejected(RejectReason::DuplicateSequence)
            );
            prop_assert!(is_there, "{verdict:?}");
        }
        prop_assert_eq!(store.heads[&log(0)].high_watermark.0, i64::from(next));
    }
}

//! Every invariant against a history that breaks it, and against histories that do not.

use proptest::prelude::*;

use super::*;
use crate::oracle::history::{Content, Fingerprint, GroupRead, PartialRead};
use crate::types::{PartitionIndex, Timestamp, TopicName};

fn log_name(partition: i32) -> LogName {
    LogName { topic: TopicName::parse("t").unwrap(), partition: PartitionIndex(partition) }
}

fn content(id: RecordId) -> Content {
    let number = u64::from(id.producer) * 1_000_003 + id.sequence;
    Content {
        key: Fingerprint(number),
        value: Fingerprint(number ^ 0xff),
        headers: Fingerprint(number ^ 0xffff),
        timestamp: Timestamp(number as i64),
    }
}

fn id(producer: u32, sequence: u64) -> RecordId {
    RecordId { producer, sequence }
}

fn observed(id: RecordId, offset: i64) -> Observed {
    Observed { offset: Offset(offset), id: Some(id), content: content(id) }
}

fn attempt(id: RecordId, promise: Promise, outcome: Outcome) -> Attempt {
    let topic = log_name(0).topic;
    Attempt { id, promise, topic, partition: Some(PartitionIndex(0)), content: content(id), outcome }
}

fn acked(offset: i64) -> Outcome {
    Outcome::Acked { partition: PartitionIndex(0), offset: Some(Offset(offset)) }
}

/// One partition with the given records at offsets 0, 1, …, and a second one that is empty.
fn history(attempts: Vec<Attempt>, records: &[RecordId]) -> History {
    let records: Vec<Observed> = records.iter().enumerate().map(|(i, id)| observed(*id, i as i64)).collect();
    let high_watermark = Offset(records.len() as i64);
    let empty = LogRead { log: log_name(1), start: Offset(0), high_watermark: Offset(0), records: Vec::new() };
    let log = LogRead { log: log_name(0), start: Offset(0), high_watermark, records };
    History { attempts, logs: vec![log, empty], ..History::default() }
}

/// Three acknowledged records of one producer, in order.
fn three(promise: Promise) -> History {
    let attempts = (0..3).map(|i| attempt(id(7, i), promise, acked(i as i64))).collect();
    history(attempts, &[id(7, 0), id(7, 1), id(7, 2)])
}

/// Holds if exactly `broken` are broken.
fn expect(history: &History, broken: &[Invariant]) {
    let report = check(history);
    let found: Vec<Invariant> = report.violations.iter().map(|v| v.invariant).collect();
    assert_eq!(found, broken, "{report}");
}

#[test]
fn a_sound_history_passes_and_is_counted() {
    let report = check(&three(Promise::Idempotent));
    assert!(report.is_ok(), "{report}");
    assert_eq!(report.to_string(), "OK: 3 records verified across 2 partitions from 1 producers");
}

#[test]
fn a_lost_record_breaks_completeness() {
    let mut h = three(Promise::Idempotent);
    h.logs[0].records.pop();
    h.logs[0].high_watermark = Offset(2);
    expect(&h, &[Invariant::Completeness]);
}

#[test]
fn a_record_in_another_partition_does_not_make_its_own_complete() {
    let mut h = three(Promise::Idempotent);
    let mut strayed = h.logs[0].records.pop().unwrap();
    h.logs[0].high_watermark = Offset(2);
    strayed.offset = Offset(0);
    h.logs[1].records.push(strayed);
    h.logs[1].high_watermark = Offset(1);
    expect(&h, &[Invariant::Completeness, Invariant::DataIntegrity]);
}

#[test]
fn a_partition_that_was_not_read_breaks_completeness() {
    let mut h = three(Promise::Idempotent);
    h.logs.remove(0);
    expect(&h, &[Invariant::Completeness]);
}

#[test]
fn an_acknowledgement_without_offset_is_a_promise_too() {
    let mut h = three(Promise::Idempotent);
    h.attempts[2].outcome = Outcome::Acked { partition: PartitionIndex(0), offset: None };
    expect(&h, &[]);
    h.logs[0].records.pop();
    h.logs[0].high_watermark = Offset(2);
    expect(&h, &[Invariant::Completeness]);
}

#[test]
fn a_record_nobody_sent_is_a_phantom() {
    let mut h = three(Promise::Idempotent);
    h.logs[0].records.push(observed(id(7, 99), 3));
    h.logs[0].records.push(Observed { id: None, ..observed(id(7, 0), 4) });
    h.logs[0].high_watermark = Offset(5);
    expect(&h, &[Invariant::NoPhantoms]);
    assert_eq!(check(&h).violations[0].count, 2);
}

#[test]
fn a_refused_record_that_is_there_is_a_phantom() {
    let mut h = three(Promise::Idempotent);
    h.attempts[1].outcome = Outcome::Failed;
    expect(&h, &[Invariant::NoPhantoms]);
}

#[test]
fn an_offset_read_twice_is_found() {
    let mut h = three(Promise::Idempotent);
    let again = h.logs[0].records[1];
    h.logs[0].records.insert(2, again);
    expect(&h, &[Invariant::NoDuplicateOffsets]);
}

#[test]
fn gaps_are_found_in_the_middle_and_at_both_ends() {
    for missing in 0..3 {
        let mut h = three(Promise::Idempotent);
        h.logs[0].records.remove(missing);
        h.attempts.remove(missing);
        expect(&h, &[Invariant::ContiguousOffsets]);
    }
}

#[test]
fn offsets_beyond_the_high_watermark_or_out_of_order_are_found() {
    let mut beyond = three(Promise::Idempotent);
    beyond.logs[0].high_watermark = Offset(2);
    expect(&beyond, &[Invariant::ContiguousOffsets]);
    let mut swapped = three(Promise::Idempotent);
    swapped.logs[0].records.swap(0, 1);
    expect(&swapped, &[Invariant::ContiguousOffsets]);
}

#[test]
fn a_log_that_starts_late_is_judged_from_there() {
    let mut h = three(Promise::Idempotent);
    h.logs[0].records.remove(0);
    h.logs[0].start = Offset(1);
    expect(&h, &[]);
}

#[test]
fn swapped_records_break_the_order_where_it_is_promised() {
    for (promise, broken) in [
        (Promise::Idempotent, vec![Invariant::ProducerOrder]),
        (Promise::Sequential, vec![Invariant::ProducerOrder]),
        (Promise::Pipelined, vec![]),
    ] {
        let attempts = vec![attempt(id(7, 0), promise, acked(1)), attempt(id(7, 1), promise, acked(0))];
        expect(&history(attempts, &[id(7, 1), id(7, 0)]), &broken);
    }
}

#[test]
fn a_late_copy_of_unknown_outcome_may_stand_anywhere_unless_idempotent() {
    for (promise, broken) in [(Promise::Idempotent, vec![Invariant::ProducerOrder]), (Promise::Sequential, vec![])] {
        let attempts = vec![attempt(id(7, 0), promise, Outcome::Unknown), attempt(id(7, 1), promise, acked(0))];
        expect(&history(attempts, &[id(7, 1), id(7, 0)]), &broken);
    }
}

#[test]
fn producers_have_no_order_between_them() {
    let attempts = vec![attempt(id(1, 0), Promise::Idempotent, acked(1)), attempt(id(2, 5), Promise::Idempotent, acked(0))];
    expect(&history(attempts, &[id(2, 5), id(1, 0)]), &[]);
}

#[test]
fn every_part_of_a_record_is_compared() {
    let changes: [fn(&mut Content); 4] =
        [|c| c.key = Fingerprint(0), |c| c.value = Fingerprint(0), |c| c.headers = Fingerprint(0), |c| c.timestamp = Timestamp(0)];
    for change in changes {
        let mut h = three(Promise::Idempotent);
        change(&mut h.logs[0].records[1].content);
        expect(&h, &[Invariant::DataIntegrity]);
    }
}

#[test]
fn an_acknowledgement_for_another_partition_than_asked_breaks_integrity() {
    let mut h = three(Promise::Idempotent);
    h.attempts[2].partition = Some(PartitionIndex(1));
    h.logs[0].records[2].id = None;
    let report = check(&h);
    assert!(report.breaks(Invariant::DataIntegrity), "{report}");
}

#[test]
fn a_record_at_another_offset_than_acknowledged_is_found() {
    let mut h = three(Promise::Idempotent);
    h.attempts[1].outcome = acked(2);
    expect(&h, &[Invariant::AcknowledgedOffsets]);
}

#[test]
fn repeats_are_for_those_who_allow_them() {
    for (promise, broken) in
        [(Promise::Idempotent, vec![Invariant::NoDuplicateRecords]), (Promise::Sequential, vec![]), (Promise::Pipelined, vec![])]
    {
        let attempts = vec![attempt(id(7, 0), promise, acked(1)), attempt(id(7, 1), promise, acked(2))];
        expect(&history(attempts, &[id(7, 0), id(7, 0), id(7, 1)]), &broken);
    }
}

#[test]
fn an_unknown_outcome_may_be_there_once_or_not() {
    let attempts = || vec![attempt(id(7, 0), Promise::Idempotent, Outcome::Unknown)];
    expect(&history(attempts(), &[]), &[]);
    expect(&history(attempts(), &[id(7, 0)]), &[]);
    expect(&history(attempts(), &[id(7, 0), id(7, 0)]), &[Invariant::NoDuplicateRecords]);
}

fn from_the_middle(h: &History, from: i64, records: &[Observed]) -> PartialRead {
    let until = h.logs[0].high_watermark;
    PartialRead { reader: "consumer 1".to_owned(), log: log_name(0), from: Offset(from), until, records: records.to_vec() }
}

#[test]
fn a_read_from_the_middle_sees_the_same() {
    let mut h = three(Promise::Idempotent);
    let all = h.logs[0].records.clone();
    h.partial_reads = vec![from_the_middle(&h, 1, &all[1..])];
    expect(&h, &[]);
    for wrong in [&all[..], &all[2..], &all[1..2], &[all[2], all[1]]] {
        h.partial_reads = vec![from_the_middle(&h, 1, wrong)];
        expect(&h, &[Invariant::SameLogFromTheMiddle]);
    }
}

#[test]
fn a_group_gets_all_and_nothing_else() {
    let mut h = three(Promise::Idempotent);
    let all = h.logs[0].records.clone();
    let read = |records: Vec<Observed>| vec![GroupRead { group: "g".to_owned(), log: log_name(0), records }];
    h.group_reads = read(vec![all[2], all[0], all[1], all[0]]);
    expect(&h, &[]);
    for wrong in [vec![all[0], all[2]], vec![all[0], all[1], all[2], observed(id(7, 1), 9)]] {
        h.group_reads = read(wrong);
        expect(&h, &[Invariant::GroupCoverage]);
    }
}

#[test]
fn many_breaks_are_counted_and_a_few_are_shown() {
    let attempts = (0..40).map(|i| attempt(id(7, i), Promise::Idempotent, acked(i as i64))).collect();
    let report = check(&history(attempts, &[]));
    assert_eq!((report.violations[0].count, report.violations[0].examples.len()), (40, super::super::report::EXAMPLES_MAX));
    assert!(report.to_string().contains("and 35 more"), "{report}");
}

/// What becomes of one record in a generated history.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Acked,
    AckedWithoutOffset,
    UnknownThere,
    UnknownAbsent,
    Failed,
    Repeated,
}

fn fates() -> impl Strategy<Value = Vec<(u32, Fate)>> {
    let fate = prop_oneof![
        6 => Just(Fate::Acked),
        1 => Just(Fate::AckedWithoutOffset),
        1 => Just(Fate::UnknownThere),
        1 => Just(Fate::UnknownAbsent),
        1 => Just(Fate::Failed),
        1 => Just(Fate::Repeated),
    ];
    prop::collection::vec((0..6u32, fate), 1..80)
}

/// A history that keeps every promise: producers 0 and 1 idempotent, 2 and 3 sequential, 4 and 5 pipelined.
fn sound(fates: &[(u32, Fate)]) -> History {
    let mut h = history(Vec::new(), &[]);
    let mut sequences = [0u64; 6];
    for (producer, fate) in fates {
        let sequence = &mut sequences[*producer as usize];
        let (promise, id) = (promise_of(*producer), id(*producer, *sequence));
        *sequence += 1;
        let log = &mut h.logs[(id.sequence % 2) as usize];
        let copies = match fate {
            Fate::UnknownAbsent | Fate::Failed => 0,
            Fate::Repeated if promise != Promise::Idempotent => 2,
            Fate::Acked | Fate::AckedWithoutOffset | Fate::UnknownThere | Fate::Repeated => 1,
        };
        for _ in 0..copies {
            log.records.push(observed(id, log.high_watermark.0));
            log.high_watermark = log.high_watermark.plus(1);
        }
        let partition = log.log.partition;
        let last = log.records.last().map(|r| r.offset);
        let outcome = match fate {
            Fate::Acked | Fate::Repeated => Outcome::Acked { partition, offset: last },
            Fate::AckedWithoutOffset => Outcome::Acked { partition, offset: None },
            Fate::UnknownThere | Fate::UnknownAbsent => Outcome::Unknown,
            Fate::Failed => Outcome::Failed,
        };
        let asked = (id.sequence % 3 > 0).then_some(partition);
        h.attempts.push(Attempt { partition: asked, ..attempt(id, promise, outcome) });
    }
    h
}

fn promise_of(producer: u32) -> Promise {
    [Promise::Idempotent, Promise::Sequential, Promise::Pipelined][producer as usize / 2]
}

proptest! {
    #[test]
    fn sound_histories_pass(fates in fates()) {
        let h = sound(&fates);
        let report = check(&h);
        prop_assert!(report.is_ok(), "{report}");
        let there = h.logs.iter().map(|l| l.records.len() as u64).sum::<u64>();
        prop_assert_eq!(report.verified + report.repeats, there);
    }

    #[test]
    fn a_removed_record_is_always_noticed(fates in fates(), at in any::<prop::sample::Index>()) {
        let mut h = sound(&fates);
        let log = at.index(2);
        prop_assume!(!h.logs[log].records.is_empty());
        let place = at.index(h.logs[log].records.len());
        h.logs[log].records.remove(place);
        prop_assert!(check(&h).breaks(Invariant::ContiguousOffsets));
    }

    #[test]
    fn an_acknowledged_record_that_vanishes_without_a_gap_is_always_noticed(fates in fates(), at in any::<prop::sample::Index>()) {
        let mut h = sound(&fates);
        let acked: Vec<RecordId> =
            h.attempts.iter().filter(|a| matches!(a.outcome, Outcome::Acked { .. })).map(|a| a.id).collect();
        prop_assume!(!acked.is_empty());
        let lost = acked[at.index(acked.len())];
        for log in &mut h.logs {
            log.records.retain(|r| r.id != Some(lost));
            for (i, record) in log.records.iter_mut().enumerate() {
                record.offset = Offset(i as i64);
            }
            log.high_watermark = Offset(log.records.len() as i64);
        }
        prop_assert!(check(&h).breaks(Invariant::Completeness));
    }

    #[test]
    fn two_exchanged_records_of_an_idempotent_producer_are_always_noticed(fates in fates(), at in any::<prop::sample::Index>()) {
        let mut h = sound(&fates);
        let log = at.index(2);
        let places: Vec<usize> =
            (0..h.logs[log].records.len()).filter(|i| h.logs[log].records[*i].id.is_some_and(|id| id.producer == 0)).collect();
        prop_assume!(places.len() > 1);
        let first = at.index(places.len() - 1);
        let records = &mut h.logs[log].records;
        let (a, b) = (records[places[first]], records[places[first + 1]]);
        records[places[first]] = Observed { offset: a.offset, ..b };
        records[places[first + 1]] = Observed { offset: b.offset, ..a };
        prop_assert!(check(&h).breaks(Invariant::ProducerOrder));
    }

    #[test]
    fn any_history_is_judged_without_panic(
        offsets in prop::collection::vec((0..3i64, any::<i16>(), 0..4u32, 0..4u64), 0..40), start in any::<i16>(), end in any::<i16>()
    ) {
        let mut h = three(Promise::Sequential);
        h.logs[0].start = Offset(start.into());
        h.logs[0].high_watermark = Offset(end.into());
        h.logs[0].records = offsets.iter().map(|(_, o, p, s)| observed(id(*p, *s), (*o).into())).collect();
        let _ = check(&h).to_string();
    }
}

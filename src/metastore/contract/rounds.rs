//! Rounds.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;

use super::Backend;
use super::scene::{
    LIMITS, PARK_FOR, append, at, event, eventually, from, object, parking_for, plain, round, round_with, rules, single, stamped, timed,
    topic, verdicts, view, whole_log,
};
use crate::metastore::{Change, Decide, Metastore, Round, RoundLimits, WriteEvent};
use crate::partition::{BatchVerdict, Decisions, RejectReason, Snapshot};
use crate::types::{ByteRange, Head, Offset, ProducerEpoch, Timestamp, TopicPartition};

pub(super) async fn offsets_follow_each_other(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let id = topic(&metastore, 1, 2).await;
    let (a, b) = (TopicPartition::new(id, 0), TopicPartition::new(id, 1));
    append(&metastore, &[event(1, [(a, vec![timed(3, 50), timed(2, 20)]), (b, vec![plain(4)])]), single(2, a, timed(1, 30))]).await;
    let report = round(&metastore).await;
    assert_eq!((report.events, report.segments.len(), report.more, report.next_due), (2, 3, false, None));
    assert!(report.oldest_event_age.is_some());
    assert_eq!(report.verdicts.len(), 2);
    let head = Head { log_start: Offset(0), high_watermark: Offset(6), last_stable: Offset(6), max_timestamp: Timestamp(50), bytes: 600 };
    assert_eq!(report.heads.iter().find(|(log, _)| *log == a), Some(&(a, head)));
    assert_eq!(metastore.heads(&[b, a]).await.expect("heads")[1], Some(head));
    assert_eq!(verdicts(&metastore, 1).await, Some(vec![at(0), at(3), at(0)]));

    append(&metastore, &[single(3, a, plain(10))]).await;
    round(&metastore).await;
    assert_eq!(verdicts(&metastore, 3).await, Some(vec![at(6)]));
    let segments = whole_log(&metastore, a).await;
    assert_eq!(segments.iter().map(|s| (s.base_offset.0, s.last_offset.0)).collect::<Vec<_>>(), [(0, 4), (5, 5), (6, 15)]);
    assert_eq!(segments.iter().map(|s| s.max_timestamp.0).collect::<Vec<_>>(), [50, 30, 1000]);
    assert_eq!(segments.iter().map(|s| s.max_timestamp_so_far.0).collect::<Vec<_>>(), [50, 50, 1000]);
    assert_eq!(segments[0].range, ByteRange { start: 0, len: 500 });
    assert_eq!((segments[0].object, segments[0].level), (object(1), 0));
}

/// Agents' clocks, with which the ids of their objects begin, have no say in the order of records: the order of commits has.
pub(super) async fn the_oldest_events_come_first(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    // Ids of objects that do not sort as the events do.
    for number in [5, 3, 9, 1] {
        append(&metastore, &[single(number, log, plain(1))]).await;
    }
    let first = round_with(&metastore, RoundLimits { events: 3 }, &rules()).await;
    assert_eq!((first.events, first.more), (3, true));
    let second = round_with(&metastore, RoundLimits { events: 3 }, &rules()).await;
    assert_eq!((second.events, second.more), (1, false));
    let order: Vec<_> = whole_log(&metastore, log).await.iter().map(|s| s.object).collect();
    assert_eq!(order, [5, 3, 9, 1].map(object));
}

pub(super) async fn big_indexes_end_a_round(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    let big = Bytes::from(vec![0xff; 1 << 20]);
    for number in 0..6 {
        append(&metastore, &[WriteEvent { index: big.clone(), ..single(number, log, plain(1)) }]).await;
    }
    let first = round(&metastore).await;
    assert_eq!((first.events, first.more), (4, true));
    let second = round(&metastore).await;
    assert_eq!((second.events, second.more), (2, false));
}

/// A decision that waits in the middle of its round: what it sends first says that it began.
fn paused(decide: Decide) -> (Decide, mpsc::Receiver<()>, mpsc::SyncSender<()>) {
    let ((began, has_began), (go_on, may_go_on)) = (mpsc::sync_channel(1), mpsc::sync_channel::<()>(1));
    let may_go_on = Mutex::new(may_go_on);
    let paused = move |snapshot: Snapshot| {
        began.send(()).expect("the test listens");
        let wait = || may_go_on.lock().expect("not poisoned").recv_timeout(Duration::from_secs(20));
        tokio::task::block_in_place(wait).expect("the test goes on");
        decide(snapshot)
    };
    (Arc::new(paused), has_began, go_on)
}

pub(super) async fn one_round_at_a_time(backend: &dyn Backend) {
    let (here, there) = (backend.metastore(), backend.another().await);
    let log = TopicPartition::new(topic(&here, 1, 1).await, 0);
    append(&here, &[single(1, log, plain(1))]).await;
    let (decide, began, go_on) = paused(rules());
    let first = Arc::clone(&here);
    let first = tokio::spawn(async move { first.run_round(LIMITS, &decide).await });
    tokio::task::spawn_blocking(move || began.recv_timeout(Duration::from_secs(20))).await.expect("joined").expect("it began");
    assert!(matches!(there.run_round(LIMITS, &rules()).await, Ok(Round::Busy)));
    go_on.send(()).expect("it waits");
    assert!(matches!(first.await.expect("joined"), Ok(Round::Done(report)) if report.events == 1));
    assert!(matches!(there.run_round(LIMITS, &rules()).await, Ok(Round::Done(report)) if report.events == 0));
    assert_eq!(whole_log(&there, log).await.len(), 1);
}

/// Runs rounds until nothing is pending; returns how many did something.
async fn work_off(metastore: Arc<dyn Metastore>) -> usize {
    let mut rounds = 0;
    loop {
        match metastore.run_round(RoundLimits { events: 7 }, &rules()).await.expect("a round") {
            Round::Done(report) if report.events > 0 => rounds += 1,
            Round::Done(_) => return rounds,
            Round::Busy => tokio::task::yield_now().await,
        }
    }
}

/// Two materializers over one backlog must not reorder what was acknowledged.
pub(super) async fn two_agents_share_a_backlog(backend: &dyn Backend) {
    let (here, there) = (backend.metastore(), backend.another().await);
    let id = topic(&here, 1, 3).await;
    let logs = [0, 1, 2].map(|p| TopicPartition::new(id, p));
    for number in 0..150u32 {
        let batches = |log| (log, vec![plain(1 + number % 3)]);
        append(if number % 2 == 0 { &here } else { &there }, &[event(number, logs.map(batches))]).await;
    }
    let (a, b) = tokio::join!(tokio::spawn(work_off(Arc::clone(&here))), tokio::spawn(work_off(there)));
    assert!(a.expect("joined") + b.expect("joined") >= 150 / 7);
    for log in logs {
        let order: Vec<_> = whole_log(&here, log).await.iter().map(|s| s.object).collect();
        assert_eq!(order, (0..150).map(object).collect::<Vec<_>>());
    }
}

pub(super) async fn a_retry_gets_its_offset(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    append(&metastore, &[single(1, log, plain(5)), single(2, log, stamped(7, 0, 3))]).await;
    round(&metastore).await;
    append(&metastore, &[single(3, log, stamped(7, 0, 3)), single(4, log, stamped(7, 3, 1)), single(5, log, stamped(8, 0, 1))]).await;
    round(&metastore).await;
    assert_eq!(verdicts(&metastore, 3).await, Some(vec![BatchVerdict::Duplicate { base_offset: Offset(5) }]));
    assert_eq!(verdicts(&metastore, 4).await, Some(vec![at(8)]));
    assert_eq!(verdicts(&metastore, 5).await, Some(vec![at(9)]));
    let objects: Vec<_> = whole_log(&metastore, log).await.iter().map(|s| s.object).collect();
    assert_eq!(objects, [1, 2, 4, 5].map(object));
}

pub(super) async fn an_early_batch_waits(backend: &dyn Backend) {
    let (here, there) = (backend.metastore(), backend.another().await);
    let id = topic(&here, 1, 2).await;
    let (log, other) = (TopicPartition::new(id, 0), TopicPartition::new(id, 1));
    append(&here, &[single(1, log, stamped(7, 0, 1))]).await;
    append(&here, &[event(2, [(other, vec![plain(1)]), (log, vec![stamped(7, 3, 2), stamped(7, 2, 1)])])]).await;
    let report = round_with(&here, LIMITS, &parking_for(Duration::from_hours(1))).await;
    assert_eq!(verdicts(&here, 2).await, Some(vec![at(0), BatchVerdict::Parked, BatchVerdict::Parked]));
    let due = report.next_due.expect("two batches wait");
    assert!(due <= Duration::from_hours(1) && due > Duration::from_mins(55), "{due:?}");
    // A round that touches other logs does not touch them.
    append(&there, &[single(3, other, plain(1))]).await;
    let report = round(&there).await;
    assert_eq!(report.verdicts.len(), 1);
    assert!(report.next_due.is_some());
    append(&there, &[single(4, log, stamped(7, 1, 1))]).await;
    let report = round(&there).await;
    assert_eq!(report.next_due, None);
    assert_eq!(report.verdicts.len(), 2);
    assert_eq!(verdicts(&here, 4).await, Some(vec![at(1)]));
    assert_eq!(verdicts(&here, 2).await, Some(vec![at(0), at(3), at(2)]));
    let ranges: Vec<_> = whole_log(&here, log).await.iter().map(|s| (s.object, s.range.start, s.range.len)).collect();
    assert_eq!(ranges, [(object(1), 0, 100), (object(4), 0, 100), (object(2), 300, 100), (object(2), 100, 200)]);
}

pub(super) async fn waiting_ends_at_the_deadline(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    append(&metastore, &[single(1, log, stamped(7, 0, 1)), single(2, log, stamped(7, 5, 1)), single(3, log, stamped(9, 5, 1))]).await;
    let report = round_with(&metastore, LIMITS, &parking_for(Duration::from_millis(200))).await;
    assert_eq!(report.verdicts.len(), 3);
    assert!(report.next_due.is_some_and(|due| due <= Duration::from_millis(200)));
    eventually(backend, "what waits is settled", || async {
        round(&metastore).await;
        verdicts(&metastore, 2).await != Some(vec![BatchVerdict::Parked])
            && verdicts(&metastore, 3).await != Some(vec![BatchVerdict::Parked])
    })
    .await;
    assert_eq!(verdicts(&metastore, 2).await, Some(vec![BatchVerdict::Rejected(RejectReason::MissingPredecessor)]));
    // Nothing was known of the other producer: it begins here.
    assert_eq!(verdicts(&metastore, 3).await, Some(vec![at(1)]));
    assert_eq!(round(&metastore).await.next_due, None);
}

pub(super) async fn what_waits_for_a_deleted_topic_is_refused(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let id = topic(&metastore, 1, 1).await;
    append(&metastore, &[single(1, TopicPartition::new(id, 0), stamped(7, 5, 1))]).await;
    round_with(&metastore, LIMITS, &parking_for(Duration::from_hours(1))).await;
    metastore.delete_topic(id).await.expect("deleted");
    let report = round(&metastore).await;
    assert_eq!((report.verdicts.len(), report.next_due), (1, None));
    assert_eq!(verdicts(&metastore, 1).await, Some(vec![BatchVerdict::Rejected(RejectReason::UnknownLog)]));
}

pub(super) async fn forgotten_producers(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    for producer in 1..=3 {
        append(&metastore, &[single(producer as u32, log, stamped(producer, 0, 1))]).await;
    }
    round(&metastore).await;
    assert!(!metastore.expire_producers(Duration::from_hours(1), 10).await.expect("expired"));
    append(&metastore, &[single(11, log, stamped(1, 0, 1))]).await;
    round(&metastore).await;
    assert_eq!(verdicts(&metastore, 11).await, Some(vec![BatchVerdict::Duplicate { base_offset: Offset(0) }]));
    backend.pass(Duration::from_millis(50)).await;
    assert!(metastore.expire_producers(Duration::ZERO, 2).await.expect("expired"));
    assert!(!metastore.expire_producers(Duration::ZERO, 2).await.expect("expired"));
    append(&metastore, &[single(12, log, stamped(1, 0, 1))]).await;
    round(&metastore).await;
    assert_eq!(verdicts(&metastore, 12).await, Some(vec![at(3)]));
}

pub(super) async fn an_idle_round(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let never: Decide = Arc::new(|_| panic!("there is nothing to decide"));
    let report = round_with(&metastore, LIMITS, &never).await;
    assert_eq!((report.events, report.more, report.next_due, report.oldest_event_age), (0, false, None, None));
}

pub(super) async fn rounds_are_announced(backend: &dyn Backend) {
    let (here, there) = (backend.metastore(), backend.another().await);
    let log = TopicPartition::new(topic(&here, 1, 1).await, 0);
    let mut changes = [here.subscribe_changes(), there.subscribe_changes(), there.subscribe_changes()];
    if !backend.announces() {
        append(&here, &[single(1, log, plain(1))]).await;
        round(&here).await;
        return assert!(changes.iter_mut().all(|c| matches!(c.try_recv(), Err(tokio::sync::mpsc::error::TryRecvError::Empty))));
    }
    // A subscription may need a moment, and says so with `Unknown`: rounds go on until each subscriber has heard of one.
    for changes in &mut changes {
        let mut number = whole_log(&here, log).await.len() as u32;
        let heard = async {
            while let Some(change) = changes.recv().await {
                match change {
                    Change::Heads(heads) => return heads,
                    Change::Group { .. } | Change::Unknown => {}
                }
            }
            panic!("the announcements ended")
        };
        tokio::pin!(heard);
        let heads = loop {
            append(&here, &[single(number, log, plain(1))]).await;
            round(&here).await;
            number += 1;
            if let Ok(heads) = tokio::time::timeout(Duration::from_millis(500), &mut heard).await {
                break heads;
            }
            assert!(number < 100, "no announcement was heard");
        };
        let [(announced_log, newest)] = heads.as_slice() else { panic!("{heads:?}") };
        assert_eq!(*announced_log, log);
        assert!(newest.high_watermark <= Offset(i64::from(number)) && newest.high_watermark > Offset(0));
        assert_eq!((newest.last_stable, newest.max_timestamp), (newest.high_watermark, Timestamp(1000)));
    }
}

/// What a decision says is stored as it is, also where the rules of today never say it.
pub(super) async fn a_decision_keeps_every_field(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    let stamped = single(1, log, stamped(i64::MAX, i32::MAX, 2));
    append(&metastore, std::slice::from_ref(&stamped)).await;
    round_with(&metastore, LIMITS, &parking_for(Duration::from_hours(1))).await;
    let seen = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&seen);
    let decide: Decide = Arc::new(move |snapshot| {
        *keep.lock().expect("not poisoned") = Some(snapshot.clone());
        let segment = crate::types::Segment {
            log,
            base_offset: Offset(1 << 60),
            last_offset: Offset((1 << 60) + 9),
            object: object(1),
            range: ByteRange { start: 1 << 50, len: 1 << 40 },
            record_count: u32::MAX >> 1,
            max_timestamp: Timestamp::NONE,
            max_timestamp_so_far: Timestamp(1 << 50),
            level: 1,
        };
        let head = Head {
            log_start: Offset(0),
            high_watermark: Offset(1 << 61),
            last_stable: Offset(1 << 59),
            max_timestamp: Timestamp::NONE,
            bytes: 1 << 62,
        };
        Decisions { segments: vec![segment], heads: [(log, head)].into(), ..Decisions::default() }
    });
    append(&metastore, &[single(2, log, plain(1))]).await;
    let report = round_with(&metastore, LIMITS, &decide).await;
    assert_eq!(report.segments.len(), 1);
    let stored = view(&metastore, from(log, 0)).await.expect("the log");
    assert_eq!(stored.head, report.heads[0].1);
    assert_eq!((stored.segments[0].range.start, stored.segments[0].record_count), (1 << 50, u32::MAX >> 1));
    assert_eq!((stored.segments[0].max_timestamp, stored.segments[0].level), (Timestamp::NONE, 1));
    let snapshot = seen.lock().expect("not poisoned").take().expect("it was asked");
    let [parked] = snapshot.parked.as_slice() else { panic!("{snapshot:?}") };
    assert_eq!((parked.log, parked.object, parked.run, parked.batch, parked.start), (log, object(1), 0, 0, 0));
    let producer = parked.summary.producer.expect("it is stamped");
    assert_eq!((producer.id.0, producer.epoch, producer.base_sequence.0), (i64::MAX, ProducerEpoch(0), i32::MAX));
    assert!(parked.deadline.0 - snapshot.now.0 > PARK_FOR.as_millis() as i64);
    assert_eq!(snapshot.parked_verdicts[&object(1)].runs, [[BatchVerdict::Parked]]);
}

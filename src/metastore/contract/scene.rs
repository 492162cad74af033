//! What the cases are told with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::Backend;
use crate::clock::Clock;
use crate::metastore::{Creation, Decide, LogView, Metastore, Round, RoundLimits, RoundReport, SegmentQuery, WriteEvent};
use crate::partition::{BatchVerdict, Rules, decide};
use crate::records::object::encode_index;
use crate::types::{
    BatchSummary, NodeId, ObjectId, Offset, ProducerEpoch, ProducerId, ProducerStamp, Run, Segment, Sequence, Timestamp, TopicId,
    TopicName, TopicPartition,
};

/// Long enough that a loaded machine does not end the waiting by accident.
pub(in crate::metastore) const PARK_FOR: Duration = Duration::from_secs(2);
pub(in crate::metastore) const LIMITS: RoundLimits = RoundLimits { events: 1000 };

/// A clock that stands until it is moved.
#[derive(Debug)]
pub(in crate::metastore) struct ManualClock(AtomicI64);

impl Default for ManualClock {
    fn default() -> Self {
        ManualClock(AtomicI64::new(1_700_000_000_000))
    }
}

impl ManualClock {
    pub(in crate::metastore) fn advance(&self, duration: Duration) {
        self.0.fetch_add(duration.as_millis() as i64, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

pub(in crate::metastore) fn rules() -> Decide {
    parking_for(PARK_FOR)
}

pub(in crate::metastore) fn parking_for(park_for: Duration) -> Decide {
    Arc::new(move |snapshot| decide(snapshot, &Rules { park_for, max_parked: 100 }))
}

pub(in crate::metastore) fn name(text: &str) -> TopicName {
    TopicName::parse(text).expect("a legal name")
}

/// A topic of its own: id and name are made from `number`.
pub(in crate::metastore) async fn topic(metastore: &Arc<dyn Metastore>, number: u8, partitions: i32) -> TopicId {
    let id = TopicId([number; 16]);
    let created = metastore.create_topic(id, &name(&format!("topic-{number}")), partitions, &BTreeMap::new()).await;
    assert!(matches!(created, Ok(Creation::Created(_))), "{created:?}");
    id
}

pub(in crate::metastore) fn object(number: u32) -> ObjectId {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    id[15] = 1;
    ObjectId(id)
}

pub(in crate::metastore) fn plain(records: u32) -> BatchSummary {
    timed(records, 1_000)
}

pub(in crate::metastore) fn timed(records: u32, at: i64) -> BatchSummary {
    BatchSummary {
        len: 100 * records,
        record_count: records,
        base_timestamp: Timestamp(at - 1),
        max_timestamp: Timestamp(at),
        producer: None,
    }
}

pub(in crate::metastore) fn stamped(producer: i64, sequence: i32, records: u32) -> BatchSummary {
    let (id, epoch, base_sequence) = (ProducerId(producer), ProducerEpoch(0), Sequence(sequence));
    BatchSummary { producer: Some(ProducerStamp { id, epoch, base_sequence, transactional: false }), ..plain(records) }
}

/// The event of an object that holds these batches, one run after the other.
pub(in crate::metastore) fn event(number: u32, runs: impl IntoIterator<Item = (TopicPartition, Vec<BatchSummary>)>) -> WriteEvent {
    let mut start = 0;
    let laid_out = runs.into_iter().map(|(log, batches)| {
        let run = Run { log, start, batches };
        start += run.len();
        run
    });
    let runs: Vec<Run> = laid_out.collect();
    WriteEvent { object: object(number), node: NodeId(1), object_bytes: start + 100, index: encode_index(&runs), inlined: None }
}

/// The event of an object with one batch.
pub(in crate::metastore) fn single(number: u32, log: TopicPartition, batch: BatchSummary) -> WriteEvent {
    event(number, [(log, vec![batch])])
}

/// The instance that appends.
pub(in crate::metastore) const WRITER: [u8; 16] = [1; 16];

pub(in crate::metastore) async fn append(metastore: &Arc<dyn Metastore>, events: &[WriteEvent]) {
    metastore.append(events, WRITER).await.expect("appended");
}

/// A round that nobody disturbs.
pub(in crate::metastore) async fn round(metastore: &Arc<dyn Metastore>) -> RoundReport {
    round_with(metastore, LIMITS, &rules()).await
}

pub(in crate::metastore) async fn round_with(metastore: &Arc<dyn Metastore>, limits: RoundLimits, decide: &Decide) -> RoundReport {
    match metastore.run_round(limits, decide).await.expect("a round") {
        Round::Done(report) => report,
        Round::Busy => panic!("nobody else runs a round"),
    }
}

pub(in crate::metastore) fn at(offset: i64) -> BatchVerdict {
    BatchVerdict::Accepted { base_offset: Offset(offset) }
}

/// The verdicts of an object, all batches in a row; `None` while it is pending.
pub(in crate::metastore) async fn verdicts(metastore: &Arc<dyn Metastore>, number: u32) -> Option<Vec<BatchVerdict>> {
    let found = metastore.verdicts(&[object(number)]).await.expect("looked up");
    assert!(found.iter().all(|(id, _)| *id == object(number)));
    found.into_iter().next().map(|(_, verdict)| verdict.runs.concat())
}

pub(in crate::metastore) fn from(log: TopicPartition, offset: i64) -> SegmentQuery {
    SegmentQuery { log, from: Offset(offset), max_bytes: u64::MAX, max_segments: 10_000 }
}

pub(in crate::metastore) async fn view(metastore: &Arc<dyn Metastore>, query: SegmentQuery) -> Option<LogView> {
    metastore.segments(&[query]).await.expect("read").pop().expect("one answer a query")
}

/// All segments of a log, after checking that their offsets follow each other up to the high watermark.
pub(in crate::metastore) async fn whole_log(metastore: &Arc<dyn Metastore>, log: TopicPartition) -> Vec<Segment> {
    let LogView { head, segments } = view(metastore, from(log, 0)).await.expect("the log exists");
    let mut next = head.log_start;
    for segment in &segments {
        assert_eq!(segment.base_offset, next);
        assert_eq!(segment.last_offset.0 - segment.base_offset.0 + 1, i64::from(segment.record_count));
        next = segment.base_offset.plus(segment.record_count);
    }
    assert_eq!(head.high_watermark, next);
    segments
}

/// Lets time pass until `done` says so, for at most ten seconds of the metastore's clock.
pub(super) async fn eventually<F: Future<Output = bool>>(backend: &dyn Backend, what: &str, mut done: impl FnMut() -> F) {
    for _ in 0..400 {
        if done().await {
            return;
        }
        backend.pass(Duration::from_millis(25)).await;
    }
    panic!("it never came to pass: {what}");
}

//! Segments and heads.

use std::sync::Arc;

use super::Backend;
use super::scene::{LIMITS, append, from, object, plain, round, round_with, single, timed, topic, view};
use crate::clock::{Ids as _, RandomIds, SystemClock};
use crate::metastore::{Decide, LogView, Metastore, SegmentQuery};
use crate::partition::Decisions;
use crate::types::{ByteRange, Head, Offset, Segment, Timestamp, TopicId, TopicPartition};

fn spans(view: &LogView) -> Vec<(i64, i64)> {
    view.segments.iter().map(|s| (s.base_offset.0, s.last_offset.0)).collect()
}

/// Segments 0-2, 3-5 … 27-29, each of 300 bytes.
async fn ten_segments(metastore: &Arc<dyn Metastore>) -> TopicPartition {
    let log = TopicPartition::new(topic(metastore, 1, 1).await, 0);
    for number in 0..10 {
        append(metastore, &[single(number, log, plain(3))]).await;
    }
    round(metastore).await;
    log
}

pub(super) async fn the_first_segment_holds_the_offset(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = ten_segments(&metastore).await;
    for offset in 0..30 {
        let view = view(&metastore, from(log, offset)).await.expect("the log");
        let first = view.segments.first().expect("a segment");
        assert!(first.base_offset.0 <= offset && first.last_offset.0 >= offset, "{offset}: {first:?}");
        assert_eq!(view.segments.len() as i64, 10 - offset / 3);
        assert_eq!(view.head.high_watermark, Offset(30));
    }
    for offset in [30, 31, i64::MAX] {
        assert_eq!(view(&metastore, from(log, offset)).await.expect("the log").segments, []);
    }
    assert_eq!(view(&metastore, from(log, -5)).await.expect("the log").segments.len(), 10);
}

/// Stores these spans of offsets as segments, as a compaction may leave them.
async fn store(metastore: &Arc<dyn Metastore>, log: TopicPartition, segments: Vec<(i64, i64, i64)>) {
    let decide: Decide = Arc::new(move |_| {
        let mut so_far = i64::MIN;
        let segments: Vec<Segment> = segments
            .iter()
            .map(|(base, last, at)| {
                so_far = so_far.max(*at);
                Segment {
                    log,
                    base_offset: Offset(*base),
                    last_offset: Offset(*last),
                    object: object(1),
                    range: ByteRange { start: 0, len: 100 },
                    record_count: 1,
                    max_timestamp: Timestamp(*at),
                    max_timestamp_so_far: Timestamp(so_far),
                    level: 1,
                }
            })
            .collect();
        let high_watermark = Offset(segments.last().map_or(0, |s| s.last_offset.0 + 1));
        let head = Head { high_watermark, ..Head::default() };
        Decisions { segments, heads: [(log, head)].into(), ..Decisions::default() }
    });
    append(metastore, &[single(1, log, plain(1))]).await;
    round_with(metastore, LIMITS, &decide).await;
}

pub(super) async fn gaps_are_skipped(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    store(&metastore, log, vec![(10, 19, 1), (30, 39, 2), (50, 50, 3)]).await;
    for (offset, first) in [(0, 10), (10, 10), (19, 10), (20, 30), (29, 30), (39, 30), (40, 50), (50, 50)] {
        assert_eq!(view(&metastore, from(log, offset)).await.expect("the log").segments[0].base_offset, Offset(first), "{offset}");
    }
    for (at, first) in [(0, Some(10)), (1, Some(10)), (2, Some(30)), (3, Some(50)), (4, None)] {
        let found = metastore.first_segment_since(log, Timestamp(at)).await.expect("searched");
        assert_eq!(found.map(|s| s.base_offset.0), first, "{at}");
    }
}

pub(super) async fn budgets_end_a_read(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = ten_segments(&metastore).await;
    let read = async |max_bytes, max_segments| {
        let query = SegmentQuery { log, from: Offset(4), max_bytes, max_segments };
        view(&metastore, query).await.expect("the log").segments.len()
    };
    assert_eq!(read(0, 10).await, 1);
    assert_eq!(read(300, 10).await, 1);
    assert_eq!(read(301, 10).await, 2);
    assert_eq!(read(900, 10).await, 3);
    assert_eq!(read(901, 3).await, 3);
    assert_eq!(read(u64::MAX, 1).await, 1);
    assert_eq!(read(u64::MAX, 0).await, 0);
    assert_eq!(read(u64::MAX, usize::MAX).await, 9);
}

pub(super) async fn many_queries_at_once(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = ten_segments(&metastore).await;
    let empty = TopicPartition::new(topic(&metastore, 2, 1).await, 0);
    let (no_partition, no_topic) = (TopicPartition::new(log.topic, 1), TopicPartition::new(TopicId([9; 16]), 0));
    let queries = [
        from(no_topic, 0),
        SegmentQuery { max_segments: 2, ..from(log, 6) },
        from(empty, 0),
        SegmentQuery { max_bytes: 1, ..from(log, 28) },
        from(no_partition, 0),
        from(log, 27),
    ];
    let views = metastore.segments(&queries).await.expect("read");
    let found: Vec<_> = views.iter().map(|v| v.as_ref().map(spans)).collect();
    assert_eq!(found, [None, Some(vec![(6, 8), (9, 11)]), Some(vec![]), Some(vec![(27, 29)]), None, Some(vec![(27, 29)])]);
    assert_eq!(views[2].as_ref().map(|v| v.head), Some(Head::default()));
    assert_eq!(views[1].as_ref().map(|v| v.head), views[5].as_ref().map(|v| v.head));
    assert_eq!(metastore.segments(&[]).await.expect("read"), []);
    let heads = metastore.heads(&queries.map(|q| q.log)).await.expect("heads");
    assert_eq!(heads, views.iter().map(|v| v.as_ref().map(|v| v.head)).collect::<Vec<_>>());
}

pub(super) async fn the_first_segment_since(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let id = topic(&metastore, 1, 3).await;
    let chance = RandomIds::seeded(SystemClock, 42);
    let logs = [TopicPartition::new(id, 0), TopicPartition::new(id, 1)];
    for number in 0..60 {
        let at = chance.below(50) as i64 + i64::from(number);
        append(&metastore, &[single(number, logs[(number % 2) as usize], timed(1 + chance.below(40) as u32, at))]).await;
    }
    round(&metastore).await;
    for log in logs {
        let all = view(&metastore, from(log, 0)).await.expect("the log").segments;
        for at in -1..120 {
            let expected = all.iter().find(|s| s.max_timestamp_so_far.0 >= at).copied();
            assert_eq!(metastore.first_segment_since(log, Timestamp(at)).await.expect("searched"), expected, "{at}");
        }
    }
    for log in [TopicPartition::new(id, 2), TopicPartition::new(id, 3)] {
        assert_eq!(metastore.first_segment_since(log, Timestamp(0)).await.expect("searched"), None);
    }
}

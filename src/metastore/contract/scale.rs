//! Numbers that break a statement per row, or a parameter per value.

use super::Backend;
use super::scene::{append, at, event, from, object, plain, round, stamped, topic, verdicts};
use crate::metastore::{CommittedOffset, GroupVersion};
use crate::types::{GroupId, Offset, TopicPartition};

/// One flush of many partitions must not exceed the 65,535 parameters that a statement may have.
pub(super) async fn five_thousand_partitions_in_one_event(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let id = topic(&metastore, 1, 5000).await;
    let runs = || (0..5000).map(|p| (TopicPartition::new(id, p), vec![stamped(1, 0, 1), plain(1)]));
    append(&metastore, &[event(1, runs())]).await;
    let report = round(&metastore).await;
    assert_eq!((report.segments.len(), report.heads.len()), (5000, 5000));
    append(&metastore, &[event(2, runs())]).await;
    round(&metastore).await;
    let queries: Vec<_> = (0..5000).map(|p| from(TopicPartition::new(id, p), 2)).collect();
    let views = metastore.segments(&queries).await.expect("read");
    for view in views {
        let view = view.expect("the log exists");
        // The second event's first batch of each run was a duplicate.
        assert_eq!((view.head.high_watermark, view.segments.len()), (Offset(3), 1));
        assert_eq!((view.segments[0].object, view.segments[0].range.start % 200), (object(2), 100));
    }
    assert_eq!(verdicts(&metastore, 1).await.expect("decided").len(), 10_000);
}

pub(super) async fn many_events_in_one_round(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    let events: Vec<_> = (0..700).map(|number| event(number, [(log, vec![plain(1)])])).collect();
    append(&metastore, &events).await;
    let report = round(&metastore).await;
    assert_eq!((report.events, report.segments.len()), (700, 700));
    let objects: Vec<_> = (0..700).map(object).collect();
    assert_eq!(metastore.find_events(&objects).await.expect("found").len(), 700);
    assert_eq!(metastore.verdicts(&objects).await.expect("verdicts").len(), 700);
    assert_eq!(verdicts(&metastore, 699).await, Some(vec![at(699)]));
}

pub(super) async fn offsets_of_many_partitions(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let id = topic(&metastore, 1, 5000).await;
    let committed = |p| CommittedOffset { offset: Offset(i64::from(p)), leader_epoch: -1, metadata: None };
    let offsets: Vec<_> = (0..5000).map(|p| (TopicPartition::new(id, p), committed(p))).collect();
    let group = GroupId("group".into());
    metastore.commit_offsets(&group, GroupVersion::NONE, &offsets).await.expect("committed");
    let logs: Vec<_> = offsets.iter().map(|(log, _)| *log).collect();
    assert_eq!(metastore.committed_offsets(&group, Some(&logs)).await.expect("offsets"), offsets);
    assert_eq!(metastore.heads(&logs).await.expect("heads").iter().flatten().count(), 5000);
}

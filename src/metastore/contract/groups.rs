//! Offsets of groups.

use bytes::Bytes;

use super::Backend;
use super::scene::topic;
use crate::metastore::{CommittedOffset, GroupVersion};
use crate::types::{GroupId, Offset, TopicPartition};

fn committed(offset: i64, metadata: Option<&'static [u8]>) -> CommittedOffset {
    CommittedOffset { offset: Offset(offset), leader_epoch: offset as i32 - 1, metadata: metadata.map(Bytes::from_static) }
}

pub(super) async fn committed_offsets_are_found(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let id = topic(&metastore, 1, 10).await;
    let log = |p| TopicPartition::new(id, p);
    let (group, other) = (GroupId("group".into()), GroupId("Group ä".into()));
    assert_eq!(metastore.committed_offsets(&group, None).await.expect("offsets"), []);
    metastore.commit_offsets(&group, GroupVersion::NONE, &[]).await.expect("committed");
    metastore
        .commit_offsets(&group, GroupVersion::NONE, &[(log(2), committed(5, None)), (log(0), committed(i64::MAX, None))])
        .await
        .expect("committed");
    metastore.commit_offsets(&other, GroupVersion::NONE, &[(log(2), committed(6, None))]).await.expect("committed");
    let all = metastore.committed_offsets(&group, None).await.expect("offsets");
    assert_eq!(all, [(log(0), committed(i64::MAX, None)), (log(2), committed(5, None))]);
    let some = metastore.committed_offsets(&group, Some(&[log(2), log(3)])).await.expect("offsets");
    assert_eq!(some, [(log(2), committed(5, None))]);
    assert_eq!(metastore.committed_offsets(&group, Some(&[])).await.expect("offsets"), []);
    let there = backend.another().await;
    assert_eq!(there.committed_offsets(&other, None).await.expect("offsets"), [(log(2), committed(6, None))]);
}

pub(super) async fn metadata_is_kept_as_it_is(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let id = topic(&metastore, 1, 10).await;
    let group = GroupId("group".into());
    let kinds: [Option<&'static [u8]>; 5] = [None, Some(b""), Some(b"\0"), Some(b"text\0\0"), Some(b"\xff\xfe not text")];
    let offsets: Vec<_> = (0..).zip(kinds).map(|(p, m)| (TopicPartition::new(id, p), committed(i64::from(p), m))).collect();
    metastore.commit_offsets(&group, GroupVersion::NONE, &offsets).await.expect("committed");
    assert_eq!(metastore.committed_offsets(&group, None).await.expect("offsets"), offsets);
}

pub(super) async fn the_last_commit_counts(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    let group = GroupId("group".into());
    metastore.commit_offsets(&group, GroupVersion::NONE, &[(log, committed(9, Some(b"first")))]).await.expect("committed");
    let twice = [(log, committed(1, Some(b"not this"))), (log, committed(4, None))];
    metastore.commit_offsets(&group, GroupVersion::NONE, &twice).await.expect("committed");
    assert_eq!(metastore.committed_offsets(&group, None).await.expect("offsets"), [(log, committed(4, None))]);
}

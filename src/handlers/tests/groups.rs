//! Groups of stand-alone consumers: coordinators and committed offsets.

use bytes::{BufMut as _, BytesMut};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics};
use kafka_protocol::messages::{
    BrokerId, FindCoordinatorRequest, GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
};
use uuid::Uuid;

use super::{World, text, wire};
use crate::protocol::wire::{put_len, put_str};

#[tokio::test]
async fn this_agent_coordinates_every_group_and_no_transaction() {
    let world = World::new();
    for version in 0..=3 {
        let answer = world.ask(version, &FindCoordinatorRequest::default().with_key(text("g"))).await;
        assert_eq!((answer.error_code, answer.node_id, &*answer.host, answer.port), (0, BrokerId(3), "here", 9092));
    }
    let many = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g"), text("h")]);
    for version in 4..=6 {
        let answer = world.ask(version, &many).await;
        let found: Vec<_> = answer.coordinators.iter().map(|c| (c.error_code, &*c.key, c.node_id)).collect();
        assert_eq!(found, [(0, "g", BrokerId(3)), (0, "h", BrokerId(3))]);
    }
    let transaction = FindCoordinatorRequest::default().with_key(text("t")).with_key_type(1);
    assert_eq!(world.ask(2, &transaction).await.error_code, 53);
}

fn commit_request(offset: i64, metadata: Option<&str>) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(1)
        .with_committed_offset(offset)
        .with_committed_metadata(metadata.map(text));
    let topic = OffsetCommitRequestTopic::default().with_name(wire("t")).with_partitions(vec![partition]);
    OffsetCommitRequest::default().with_group_id(GroupId(text("g"))).with_generation_id_or_member_epoch(-1).with_topics(vec![topic])
}

async fn commit(world: &World, version: i16, request: &OffsetCommitRequest) -> i16 {
    world.ask(version, request).await.topics[0].partitions[0].error_code
}

fn old_fetch(topics: Option<&[(&str, i32)]>) -> OffsetFetchRequest {
    let topic =
        |(name, partition): &(&str, i32)| OffsetFetchRequestTopic::default().with_name(wire(name)).with_partition_indexes(vec![*partition]);
    OffsetFetchRequest::default().with_group_id(GroupId(text("g"))).with_topics(topics.map(|topics| topics.iter().map(topic).collect()))
}

#[tokio::test]
async fn committed_offsets_come_back_in_every_version() {
    let world = World::new();
    world.create("t", 2, &[]).await;
    for version in 2..=9 {
        let metadata = format!("from {version}\0");
        assert_eq!(commit(&world, version, &commit_request(i64::from(version), Some(&metadata))).await, 0);
        for reading in 1..=7 {
            let answer = world.ask(reading, &old_fetch(Some(&[("t", 1), ("t", 0)]))).await;
            let found: Vec<_> =
                answer.topics.iter().map(|t| (t.partitions[0].committed_offset, t.partitions[0].metadata.as_deref())).collect();
            assert_eq!(found, [(i64::from(version), Some(metadata.as_str())), (-1, Some(""))]);
        }
    }
}

#[tokio::test]
async fn a_group_nobody_knows_has_no_error_and_no_offsets() {
    let world = World::new();
    world.create("t", 2, &[]).await;
    let answer = world.ask(5, &old_fetch(Some(&[("t", 0), ("unknown", 0)]))).await;
    assert_eq!(answer.error_code, 0);
    for topic in &answer.topics {
        assert_eq!((topic.partitions[0].error_code, topic.partitions[0].committed_offset), (0, -1));
    }
    assert!(world.ask(5, &old_fetch(None)).await.topics.is_empty());
}

#[tokio::test]
async fn several_groups_and_all_topics_are_told_in_one_request() {
    let world = World::new();
    world.create("t", 2, &[]).await;
    assert_eq!(commit(&world, 8, &commit_request(11, None)).await, 0);
    let group = |name: &str, topics| OffsetFetchRequestGroup::default().with_group_id(GroupId(text(name))).with_topics(topics);
    let one = OffsetFetchRequestTopics::default().with_name(wire("t")).with_partition_indexes(vec![1]);
    let request = OffsetFetchRequest::default().with_groups(vec![group("g", None), group("other", Some(vec![one]))]);
    for version in 8..=9 {
        let answer = world.ask(version, &request).await;
        let found: Vec<_> = answer.groups.iter().map(|g| (&**g.group_id, g.topics[0].partitions[0].committed_offset)).collect();
        assert_eq!(found, [("g", 11), ("other", -1)]);
    }
}

#[tokio::test]
async fn what_cannot_be_committed_is_refused_partition_by_partition() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    assert_eq!(commit(&world, 5, &commit_request(1, None)).await, 3, "no such partition");
    world.create("u", 2, &[]).await;
    let mut long = commit_request(1, Some(&"x".repeat(4_097)));
    long.topics[0].name = wire("u");
    assert_eq!(commit(&world, 5, &long).await, 12);
    long.topics[0].partitions[0].committed_metadata = Some(text(&"x".repeat(4_096)));
    assert_eq!(commit(&world, 5, &long).await, 0);
    let member = long.clone().with_generation_id_or_member_epoch(1).with_member_id(text("m"));
    assert_eq!(commit(&world, 5, &member).await, 22, "there is no such group");
    assert_eq!(commit(&world, 9, &member).await, 69, "and since version 9 a code says so");
    world.flaky.switch_off();
    assert_eq!(commit(&world, 5, &long).await, 14, "try again");
}

/// OffsetCommit 10, which the crate cannot encode.
fn commit_by_id(id: Uuid, offset: i64) -> BytesMut {
    let mut body = BytesMut::new();
    put_str(&mut body, "g", true);
    body.put_i32(-1);
    put_str(&mut body, "", true);
    body.put_u8(0);
    put_len(&mut body, 1, true);
    body.put_slice(id.as_bytes());
    put_len(&mut body, 1, true);
    body.put_i32(1);
    body.put_i64(offset);
    body.put_i32(-1);
    put_str(&mut body, "m", true);
    body.put_slice(&[0, 0, 0]);
    body
}

/// OffsetFetch 10 of one group.
fn fetch_by_id(id: Uuid) -> BytesMut {
    let mut body = BytesMut::new();
    put_len(&mut body, 1, true);
    put_str(&mut body, "g", true);
    body.put_u8(0);
    body.put_i32(-1);
    put_len(&mut body, 1, true);
    body.put_slice(id.as_bytes());
    put_len(&mut body, 1, true);
    body.put_i32(1);
    body.put_slice(&[0, 0, 0, 0]);
    body
}

#[tokio::test]
async fn version_10_goes_by_topic_id() {
    let world = World::new();
    let (id, unknown) = (world.create("t", 2, &[]).await, Uuid::from_u128(77));
    let committed: OffsetCommitResponse = world.ask_bytes(8, 10, 10, &commit_by_id(id, 5)).await;
    assert_eq!((committed.topics[0].topic_id, committed.topics[0].partitions[0].error_code), (id, 0));
    let refused: OffsetCommitResponse = world.ask_bytes(8, 10, 10, &commit_by_id(unknown, 5)).await;
    assert_eq!(refused.topics[0].partitions[0].error_code, 100);
    let fetched: OffsetFetchResponse = world.ask_bytes(9, 10, 10, &fetch_by_id(id)).await;
    let topic = &fetched.groups[0].topics[0];
    assert_eq!((topic.topic_id, topic.partitions[0].committed_offset, topic.partitions[0].metadata.as_deref()), (id, 5, Some("m")));
    let unknown: OffsetFetchResponse = world.ask_bytes(9, 10, 10, &fetch_by_id(unknown)).await;
    assert_eq!(unknown.groups[0].topics[0].partitions[0].error_code, 100);
}

//! Reading: fetches, ends of logs, offsets by time, leader epochs.

use std::time::Duration;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{FetchRequest, ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest};
use uuid::Uuid;

use super::{World, wire};
use crate::handlers::OnDisconnect;
use crate::records::batch::{BatchHeader, build};

/// Old, so that no limit on timestamps is in the way, which only looks ahead.
const TIME: i64 = 1_000_000;

fn fetch_request(topic: &str, id: Uuid, partition: i32, offset: i64) -> FetchRequest {
    let partition = FetchPartition::default().with_partition(partition).with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(wire(topic)).with_topic_id(id).with_partitions(vec![partition]);
    FetchRequest::default().with_max_bytes(1 << 20).with_min_bytes(1).with_max_wait_ms(0).with_topics(vec![topic])
}

pub(super) async fn fetch(world: &World, version: i16, topic: &str, id: Uuid, partition: i32, offset: i64) -> PartitionData {
    let (name, id) = if version >= 13 { ("", id) } else { (topic, Uuid::nil()) };
    let answer = world.ask(version, &fetch_request(name, id, partition, offset)).await;
    assert_eq!((answer.error_code, answer.session_id), (0, 0));
    answer.responses[0].partitions[0].clone()
}

#[tokio::test]
async fn records_come_back_with_their_offsets_in_every_version() {
    let world = World::new();
    let id = world.create("t", 1, &[]).await;
    world.produce(9, "t", 0, build::batch(2, 10, TIME)).await;
    world.produce(9, "t", 0, build::batch(3, 10, TIME)).await;
    for version in 4..=18 {
        let partition = fetch(&world, version, "t", id, 0, 3).await;
        let records = partition.records.expect("records, never null");
        let header = BatchHeader::read(&records).expect("a batch");
        assert_eq!((partition.error_code, partition.high_watermark, header.base_offset), (0, 5, 2), "version {version}");
    }
    let end = fetch(&world, 11, "t", id, 0, 5).await;
    assert_eq!((end.error_code, end.records.map(|r| r.len())), (0, Some(0)), "empty, not null");
    assert!(world.metrics().contains("yaks_fetch_records_total{topic=\"t\"} 45"), "{}", world.metrics());
}

#[tokio::test]
async fn what_cannot_be_fetched_has_kafkas_code_and_is_told_at_once() {
    let world = World::new();
    let id = world.create("t", 1, &[]).await;
    world.produce(9, "t", 0, build::batch(2, 10, TIME)).await;
    let mut request = fetch_request("unknown", Uuid::nil(), 0, 0);
    request.max_wait_ms = 3_600_000;
    let answer = tokio::time::timeout(Duration::from_secs(30), world.ask(11, &request)).await.expect("no waiting");
    assert_eq!(answer.responses[0].partitions[0].error_code, 3);
    assert_eq!(fetch(&world, 11, "t", id, 1, 0).await.error_code, 3);
    assert_eq!(fetch(&world, 13, "", Uuid::from_u128(5), 0, 0).await.error_code, 100);
    assert_eq!(fetch(&world, 13, "", id, 7, 0).await.error_code, 3);
    let above = fetch(&world, 11, "t", id, 0, 3).await;
    assert_eq!((above.error_code, above.high_watermark, above.log_start_offset), (1, 2, 0));
    assert_eq!(fetch(&world, 11, "t", id, 0, -7).await.error_code, 1);
    let mut epoch = fetch_request("t", Uuid::nil(), 0, 0);
    epoch.topics[0].partitions[0].current_leader_epoch = 4;
    assert_eq!(world.ask(11, &epoch).await.responses[0].partitions[0].error_code, 75);
}

#[tokio::test]
async fn a_session_nobody_gave_out_is_not_found() {
    let world = World::new();
    let request = FetchRequest::default().with_session_id(9).with_session_epoch(2);
    assert_eq!(world.ask(11, &request).await.error_code, 70);
}

#[tokio::test]
async fn committed_readers_get_an_empty_list_of_aborted_transactions_and_others_null() {
    let world = World::new();
    let id = world.create("t", 1, &[]).await;
    world.produce(9, "t", 0, build::batch(2, 10, TIME)).await;
    assert_eq!(fetch(&world, 11, "t", id, 0, 0).await.aborted_transactions, None);
    let committed = fetch_request("t", Uuid::nil(), 0, 0).with_isolation_level(1);
    assert_eq!(world.ask(11, &committed).await.responses[0].partitions[0].aborted_transactions, Some(Vec::new()));
}

#[tokio::test]
async fn a_fetch_waits_for_data_and_may_be_dropped() {
    use kafka_protocol::protocol::Encodable as _;
    let world = World::new();
    world.create("t", 1, &[]).await;
    let mut request = fetch_request("t", Uuid::nil(), 0, 0);
    request.max_wait_ms = 60_000;
    let mut body = bytes::BytesMut::new();
    request.encode(&mut body, 11).expect("encoded");
    let begun = world.begin(super::frame(1, 11, &body)).await.expect("begun");
    assert_eq!(begun.on_disconnect, OnDisconnect::Drop);
    let (rope, _) = tokio::join!(begun.answer, world.produce(9, "t", 0, build::batch(2, 10, TIME)));
    let answer: kafka_protocol::messages::FetchResponse = super::decode(rope.expect("an answer").to_bytes(), 11);
    assert!(answer.responses[0].partitions[0].records.as_ref().is_some_and(|records| !records.is_empty()));
}

fn list_request(partition: i32, timestamp: i64) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp);
    ListOffsetsRequest::default().with_topics(vec![ListOffsetsTopic::default().with_name(wire("t")).with_partitions(vec![partition])])
}

/// Error, offset, time and epoch.
async fn listed(world: &World, version: i16, timestamp: i64) -> (i16, i64, i64, i32) {
    let answer: ListOffsetsResponse = world.ask_as(version, version.min(10), &list_request(0, timestamp)).await;
    let partition = &answer.topics[0].partitions[0];
    (partition.error_code, partition.offset, partition.timestamp, partition.leader_epoch)
}

/// By time means the first record that is not older, never just the end of the log.
#[tokio::test]
async fn offsets_are_found_by_end_and_by_time_in_every_version() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    world.produce(9, "t", 0, build::batch(3, 10, TIME)).await;
    world.produce(9, "t", 0, build::batch(3, 10, TIME + 100)).await;
    for version in 1..=11 {
        let epoch = if version >= 4 { 0 } else { -1 };
        assert_eq!(listed(&world, version, -1).await, (0, 6, -1, epoch), "latest, version {version}");
        assert_eq!(listed(&world, version, -2).await, (0, 0, -1, epoch), "earliest, version {version}");
        assert_eq!(listed(&world, version, TIME + 1).await, (0, 1, TIME + 1, epoch), "inside a batch, version {version}");
        assert_eq!(listed(&world, version, TIME + 50).await, (0, 3, TIME + 100, epoch), "between batches, version {version}");
        assert_eq!(listed(&world, version, TIME + 500).await, (0, -1, -1, -1), "never, version {version}");
    }
    assert_eq!(listed(&world, 6, -3).await.0, 35);
    assert_eq!(listed(&world, 7, -3).await, (0, 5, TIME + 102, 0));
    assert_eq!(listed(&world, 8, -4).await, (0, 0, -1, 0));
    assert_eq!(listed(&world, 9, -5).await, (0, -1, -1, -1));
    assert_eq!(listed(&world, 11, -6).await, (0, -1, -1, -1));
}

#[tokio::test]
async fn a_log_that_does_not_exist_or_is_asked_for_twice_is_refused() {
    let world = World::new();
    assert_eq!(listed(&world, 5, -1).await.0, 3);
    world.create("t", 1, &[]).await;
    let mut twice = list_request(0, -1);
    let again = twice.topics[0].partitions[0].clone();
    twice.topics[0].partitions.push(again);
    twice.topics[0].partitions.push(ListOffsetsPartition::default().with_partition_index(1).with_timestamp(-1));
    let answer = world.ask(5, &twice).await;
    assert_eq!(answer.topics[0].partitions.iter().map(|p| p.error_code).collect::<Vec<_>>(), [0, 42, 3]);
    world.flaky.switch_off();
    assert_eq!(listed(&world, 5, -1).await.0, 56, "try again");
}

#[tokio::test]
async fn the_one_leader_epoch_ends_at_the_high_watermark() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    world.produce(9, "t", 0, build::batch(4, 10, TIME)).await;
    let partition = |index, epoch| OffsetForLeaderPartition::default().with_partition(index).with_leader_epoch(epoch);
    let topic =
        OffsetForLeaderTopic::default().with_topic(wire("t")).with_partitions(vec![partition(0, 0), partition(0, 3), partition(1, 0)]);
    for version in 2..=4 {
        let answer = world.ask(version, &OffsetForLeaderEpochRequest::default().with_topics(vec![topic.clone()])).await;
        let ends: Vec<_> = answer.topics[0].partitions.iter().map(|p| (p.error_code, p.leader_epoch, p.end_offset)).collect();
        assert_eq!(ends, [(0, 0, 4), (0, -1, -1), (3, -1, -1)]);
    }
}

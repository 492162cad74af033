//! What members of groups get wrong: Kafka's code each, and the group goes on.

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, HeartbeatRequest, JoinGroupResponse, LeaveGroupRequest, OffsetCommitRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::members::{commit, group, join_request, stable, sync_request};
use super::{World, text};

const ILLEGAL_GENERATION: i16 = 22;
const INVALID_GROUP_ID: i16 = 24;
const UNKNOWN_MEMBER_ID: i16 = 25;
const INVALID_SESSION_TIMEOUT: i16 = 26;
const FENCED_INSTANCE_ID: i16 = 82;
const UNKNOWN_SERVER_ERROR: i16 = -1;

fn beat(name: &str, member: &StrBytes, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest::default().with_group_id(group(name)).with_member_id(member.clone()).with_generation_id(generation)
}

/// The group is as stable as it was.
async fn goes_on(world: &World, member: &StrBytes, generation: i32) {
    assert_eq!(world.ask(4, &beat("g", member, generation)).await.error_code, 0);
    assert_eq!(commit(world, 9, "t", member, generation).await, 0);
}

#[tokio::test]
async fn strangers_old_generations_names_and_timeouts() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    let (member, generation) = stable(&world, "g").await;
    let stranger = text("stranger");
    for (id, generation, code) in [(&stranger, generation, UNKNOWN_MEMBER_ID), (&member, generation - 1, ILLEGAL_GENERATION)] {
        let joined = JoinGroupResponse::default().with_member_id(id.clone()).with_generation_id(generation);
        assert_eq!(world.ask(4, &beat("g", id, generation)).await.error_code, code);
        assert_eq!(world.ask(5, &sync_request("g", &joined, 5)).await.error_code, code);
        assert_eq!(commit(&world, 9, "t", id, generation).await, code);
    }
    assert_eq!(world.ask(9, &join_request("g", 9).with_member_id(stranger.clone())).await.error_code, UNKNOWN_MEMBER_ID);
    assert_eq!(
        world.ask(2, &LeaveGroupRequest::default().with_group_id(group("g")).with_member_id(stranger)).await.error_code,
        UNKNOWN_MEMBER_ID
    );
    let long = "x".repeat(1_001);
    for name in ["", "nul\0", &long] {
        assert_eq!(world.ask(9, &join_request(name, 9)).await.error_code, INVALID_GROUP_ID, "{name:?}");
        assert_eq!(world.ask(4, &beat(name, &member, generation)).await.error_code, INVALID_GROUP_ID, "{name:?}");
        let heartbeat = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group(name))
            .with_member_id(text("m"))
            .with_rebalance_timeout_ms(1_000)
            .with_subscribed_topic_names(Some(vec![TopicName(text("t"))]))
            .with_topic_partitions(Some(vec![]));
        assert_eq!(world.ask(1, &heartbeat).await.error_code, INVALID_GROUP_ID, "{name:?}");
    }
    for name in ["nul\0", &long] {
        let commit = OffsetCommitRequest::default().with_group_id(group(name)).with_generation_id_or_member_epoch(-1);
        let one = OffsetCommitRequestTopic::default().with_name(TopicName(text("t")));
        let answer = world.ask(8, &commit.with_topics(vec![one.with_partitions(vec![OffsetCommitRequestPartition::default()])])).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, INVALID_GROUP_ID, "{name:?}");
    }
    for session in [i32::MIN, -1, 0, 5_999, 1_800_001, i32::MAX] {
        let request = join_request("g", 9).with_session_timeout_ms(session);
        assert_eq!(world.ask(9, &request).await.error_code, INVALID_SESSION_TIMEOUT, "{session}");
    }
    goes_on(&world, &member, generation).await;
}

#[tokio::test]
async fn a_subscription_of_10_mb() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    let (member, generation) = stable(&world, "g").await;
    let large = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::from(vec![0; 10 << 20]));
    let refused = world.ask(3, &join_request("g", 3).with_protocols(vec![large])).await;
    assert_eq!(refused.error_code, UNKNOWN_SERVER_ERROR);
    let names = (0..100_000).map(|n| TopicName(text(&format!("{n:0100}")))).collect();
    let heartbeat = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group("h"))
        .with_member_id(text("m"))
        .with_rebalance_timeout_ms(1_000)
        .with_subscribed_topic_names(Some(names))
        .with_topic_partitions(Some(vec![]));
    assert_eq!(world.ask(1, &heartbeat).await.error_code, UNKNOWN_SERVER_ERROR);
    goes_on(&world, &member, generation).await;
}

#[tokio::test]
async fn two_leaders_and_assignments_for_nobody() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    let (leader, generation) = stable(&world, "g").await;
    // A second member comes; the first hears of it and joins again.
    let (joined, follower) = {
        let second = join_request("g", 9);
        let id = world.ask(9, &second).await.member_id;
        let again = join_request("g", 9).with_member_id(leader.clone());
        let second = second.with_member_id(id);
        tokio::join!(world.ask(9, &again), world.ask(9, &second))
    };
    assert_eq!((joined.error_code, follower.error_code, joined.generation_id), (0, 0, generation + 1));
    assert_eq!((&joined.leader, &follower.leader, joined.members.len(), follower.members.len()), (&leader, &leader, 2, 0));
    let assigning = |of: &JoinGroupResponse, shares: &[(&StrBytes, &'static [u8])]| {
        let share = |(id, bytes): &(&StrBytes, &'static [u8])| {
            SyncGroupRequestAssignment::default().with_member_id((*id).clone()).with_assignment(Bytes::from_static(bytes))
        };
        sync_request("g", of, 5).with_assignments(shares.iter().map(share).collect())
    };
    // The follower assigns too, everything to itself, and the leader something to a stranger: neither counts.
    let usurped = assigning(&follower, &[(&follower.member_id, b"all")]);
    let assigned = assigning(&joined, &[(&leader, b"one"), (&follower.member_id, b"two"), (&text("stranger"), b"three")]);
    let (second, first) = tokio::join!(world.ask(5, &usurped), world.ask(5, &assigned));
    assert_eq!((first.error_code, &first.assignment[..], second.error_code, &second.assignment[..]), (0, &b"one"[..], 0, &b"two"[..]));
    // So does a second thought of the leader.
    let again = world.ask(5, &assigning(&joined, &[(&leader, b"all")])).await;
    assert_eq!((again.error_code, &again.assignment[..]), (0, &b"one"[..]));
    goes_on(&world, &leader, joined.generation_id).await;
    goes_on(&world, &follower.member_id, joined.generation_id).await;
}

#[tokio::test]
async fn heartbeats_after_fencing() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    let fixed = || join_request("g", 9).with_group_instance_id(Some(text("i")));
    let first = world.ask(9, &fixed()).await;
    let sync = |of: &JoinGroupResponse| sync_request("g", of, 5).with_group_instance_id(Some(text("i")));
    assert_eq!(world.ask(5, &sync(&first)).await.error_code, 0);
    let second = world.ask(9, &fixed()).await;
    assert_eq!((first.error_code, second.error_code), (0, 0));
    assert_ne!(first.member_id, second.member_id);
    let fenced = beat("g", &first.member_id, first.generation_id).with_group_instance_id(Some(text("i")));
    assert_eq!(world.ask(4, &fenced).await.error_code, FENCED_INSTANCE_ID);
    assert_eq!(world.ask(4, &beat("g", &first.member_id, first.generation_id)).await.error_code, UNKNOWN_MEMBER_ID);
    assert_eq!(world.ask(5, &sync(&first)).await.error_code, FENCED_INSTANCE_ID);
    assert_eq!(world.ask(9, &fixed().with_member_id(first.member_id.clone())).await.error_code, FENCED_INSTANCE_ID);
    // Once more is the same.
    assert_eq!(world.ask(4, &fenced).await.error_code, FENCED_INSTANCE_ID);
    goes_on(&world, &second.member_id, second.generation_id).await;
}

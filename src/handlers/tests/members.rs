//! Groups with members, in every version of their APIs.

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::{World, frame, text, wire};
use crate::handlers::OnDisconnect;

pub(super) fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

/// A consumer's subscription to the topic `t`, as version 0 of Kafka's ConsumerProtocolSubscription.
const SUBSCRIPTION: &[u8] = b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff";

pub(super) fn join_request(name: &str, version: i16) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::from_static(SUBSCRIPTION));
    let request = JoinGroupRequest::default()
        .with_group_id(group(name))
        .with_session_timeout_ms(10_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    if version >= 1 { request.with_rebalance_timeout_ms(20_000) } else { request }
}

/// A member of a group of its own, after the handshake of its version.
async fn join(world: &World, name: &str, version: i16) -> JoinGroupResponse {
    let request = join_request(name, version);
    let first = world.ask(version, &request).await;
    if version < 4 {
        return first;
    }
    assert_eq!((first.error_code, first.member_id.is_empty(), first.generation_id), (79, false, -1));
    world.ask(version, &request.with_member_id(first.member_id)).await
}

pub(super) fn sync_request(name: &str, joined: &JoinGroupResponse, version: i16) -> SyncGroupRequest {
    let share = SyncGroupRequestAssignment::default().with_member_id(joined.member_id.clone()).with_assignment(Bytes::from_static(b"mine"));
    let request = SyncGroupRequest::default()
        .with_group_id(group(name))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_assignments(vec![share]);
    if version >= 5 { request.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range"))) } else { request }
}

/// A stable group of one member: its id and generation.
pub(super) async fn stable(world: &World, name: &str) -> (StrBytes, i32) {
    let joined = join(world, name, 9).await;
    let assigned = world.ask(5, &sync_request(name, &joined, 5)).await;
    assert_eq!((assigned.error_code, &assigned.assignment[..]), (0, &b"mine"[..]));
    (joined.member_id, joined.generation_id)
}

#[tokio::test]
async fn members_join_in_every_version() {
    let world = World::new();
    for version in 0..=9 {
        let name = format!("g{version}");
        let joined = join(&world, &name, version).await;
        assert_eq!((joined.error_code, joined.generation_id, joined.protocol_name.as_deref()), (0, 1, Some("range")), "version {version}");
        assert_eq!((joined.members.len(), &joined.leader), (1, &joined.member_id));
        assert_eq!(joined.protocol_type.as_deref(), (version >= 7).then_some("consumer"));
        let syncing = version.min(5);
        let assigned = world.ask(syncing, &sync_request(&name, &joined, syncing)).await;
        assert_eq!((assigned.error_code, &assigned.assignment[..]), (0, &b"mine"[..]), "version {version}");
    }
    let refused = world.ask(9, &join_request("", 9)).await;
    assert_eq!((refused.error_code, refused.protocol_name), (24, None));
    let refused = world.ask(0, &join_request("g", 0).with_session_timeout_ms(1)).await;
    assert_eq!((refused.error_code, refused.protocol_name.as_deref()), (26, Some("")));
}

#[tokio::test]
async fn members_live_and_leave_in_every_version() {
    let world = World::new();
    for version in 0..=4 {
        let name = format!("h{version}");
        let (member, generation) = stable(&world, &name).await;
        let beat = HeartbeatRequest::default().with_group_id(group(&name)).with_member_id(member).with_generation_id(generation);
        assert_eq!(world.ask(version, &beat).await.error_code, 0);
        assert_eq!(world.ask(version, &beat.clone().with_generation_id(9)).await.error_code, 22);
        assert_eq!(world.ask(version, &beat.with_member_id(text("stranger"))).await.error_code, 25);
    }
    for version in 0..=5 {
        let name = format!("l{version}");
        let (member, _) = stable(&world, &name).await;
        let leave = LeaveGroupRequest::default().with_group_id(group(&name));
        let leave = match version {
            0..=2 => leave.with_member_id(member),
            _many => leave.with_members([member, text("stranger")].map(|id| MemberIdentity::default().with_member_id(id)).to_vec()),
        };
        let left = world.ask(version, &leave).await;
        assert_eq!(left.error_code, 0);
        let codes: Vec<i16> = left.members.iter().map(|member| member.error_code).collect();
        assert_eq!(codes, if version < 3 { vec![] } else { vec![0, 25] });
        let again = world.ask(version, &leave).await;
        assert_eq!(again.error_code, if version < 3 { 25 } else { 0 });
    }
}

#[tokio::test]
async fn groups_are_described_and_listed_in_every_version() {
    let world = World::new();
    let (member, _) = stable(&world, "g").await;
    for version in 0..=6 {
        let request =
            DescribeGroupsRequest::default().with_groups(vec![group("g"), group("never")]).with_include_authorized_operations(version >= 3);
        let described = world.ask(version, &request).await;
        let [found, never] = &described.groups[..] else { panic!("two groups") };
        assert_eq!(
            (found.error_code, &*found.group_state, &*found.protocol_type, &*found.protocol_data),
            (0, "Stable", "consumer", "range")
        );
        assert_eq!((&found.members[0].member_id, &found.members[0].member_metadata[..]), (&member, SUBSCRIPTION));
        assert_eq!((&*never.group_state, never.error_code), ("Dead", if version >= 6 { 69 } else { 0 }));
        assert_eq!(found.authorized_operations, if version >= 3 { 3_400 } else { i32::MIN });
    }
    for version in 0..=5 {
        let listed = world.ask(version, &ListGroupsRequest::default()).await;
        let found: Vec<_> = listed.groups.iter().map(|g| (&**g.group_id, &*g.protocol_type, &*g.group_state, &*g.group_type)).collect();
        assert_eq!(found, [("g", "consumer", if version >= 4 { "Stable" } else { "" }, if version >= 5 { "Classic" } else { "" })]);
    }
    let filtered = |states: &[&str], types: &[&str]| {
        let texts = |words: &[&str]| words.iter().map(|word| text(word)).collect();
        ListGroupsRequest::default().with_states_filter(texts(states)).with_types_filter(texts(types))
    };
    assert_eq!(world.ask(5, &filtered(&["stable", "Empty"], &["Classic"])).await.groups.len(), 1);
    assert_eq!(world.ask(5, &filtered(&["Empty"], &[])).await.groups.len(), 0);
    assert_eq!(world.ask(5, &filtered(&[], &["consumer"])).await.groups.len(), 0);
}

pub(super) async fn commit(world: &World, version: i16, topic: &str, member: &StrBytes, generation: i32) -> i16 {
    let partition = OffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(5);
    let topic = OffsetCommitRequestTopic::default().with_name(wire(topic)).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default().with_group_id(group("g")).with_generation_id_or_member_epoch(generation);
    let request = request.with_member_id(member.clone()).with_topics(vec![topic]);
    world.ask(version, &request).await.topics[0].partitions[0].error_code
}

#[tokio::test]
async fn members_commit_and_administrators_delete() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    world.create("u", 1, &[]).await;
    let (member, generation) = stable(&world, "g").await;
    for version in 2..=9 {
        for topic in ["t", "u"] {
            assert_eq!(commit(&world, version, topic, &member, generation).await, 0);
        }
        assert_eq!(commit(&world, version, "t", &member, generation + 1).await, 22);
        assert_eq!(commit(&world, version, "t", &text("stranger"), generation).await, 25);
        assert_eq!(commit(&world, version, "t", &text(""), -1).await, 25, "somebody outside, while there are members");
    }
    let topic = |name: &str| {
        let partitions = [0, 1].map(|p| OffsetDeleteRequestPartition::default().with_partition_index(p)).to_vec();
        OffsetDeleteRequestTopic::default().with_name(wire(name)).with_partitions(partitions)
    };
    let request = OffsetDeleteRequest::default().with_group_id(group("g")).with_topics(["t", "u", "v"].map(topic).to_vec());
    let deleted = world.ask(0, &request).await;
    let codes: Vec<Vec<i16>> = deleted.topics.iter().map(|t| t.partitions.iter().map(|p| p.error_code).collect()).collect();
    assert_eq!((deleted.error_code, codes), (0, vec![vec![86, 3], vec![0, 3], vec![3, 3]]));
    assert_eq!(world.ask(0, &request.with_group_id(group("never"))).await.error_code, 69);
    for version in 0..=2 {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group("g"), group("never")]);
        let deleted = world.ask(version, &request).await;
        assert_eq!(deleted.results.iter().map(|r| r.error_code).collect::<Vec<_>>(), [68, 69]);
    }
    let leave = LeaveGroupRequest::default().with_group_id(group("g")).with_member_id(member);
    assert_eq!(world.ask(0, &leave).await.error_code, 0);
    assert_eq!(commit(&world, 2, "t", &text(""), -1).await, 0, "nobody is there to disagree");
    let deleted = world.ask(2, &DeleteGroupsRequest::default().with_groups_names(vec![group("g")])).await;
    assert_eq!(deleted.results[0].error_code, 0);
}

#[tokio::test]
async fn who_waits_is_dropped_with_its_connection_and_told_to_look_elsewhere_without_a_metastore() {
    let world = World::new();
    let body = {
        use kafka_protocol::protocol::Encodable as _;
        let mut body = bytes::BytesMut::new();
        join_request("g", 9).encode(&mut body, 9).expect("encoded");
        body
    };
    let begun = world.begin(frame(11, 9, &body)).await.expect("begun");
    assert_eq!(begun.on_disconnect, OnDisconnect::Drop);
    let (member, generation) = stable(&world, "other").await;
    world.flaky.switch_off();
    assert_eq!(world.ask(9, &join_request("g", 9)).await.error_code, 15);
    let beat = HeartbeatRequest::default().with_group_id(group("other")).with_member_id(member).with_generation_id(generation);
    assert_eq!(world.ask(4, &beat).await.error_code, 0, "it was confirmed a moment ago");
    assert_eq!(world.ask(5, &ListGroupsRequest::default()).await.error_code, 14);
}

mod consumers {
    use kafka_protocol::messages::consumer_group_heartbeat_response::Assignment;
    use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
    use kafka_protocol::messages::{
        ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, OffsetFetchRequest, TopicName,
    };

    use super::*;

    fn joining(member: &str) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group("g"))
            .with_member_id(text(member))
            .with_rebalance_timeout_ms(10_000)
            .with_subscribed_topic_names(Some(vec![TopicName(text("t"))]))
            .with_topic_partitions(Some(vec![]))
    }

    fn owned(assignment: Option<&Assignment>) -> Option<Vec<i32>> {
        assignment.map(|a| a.topic_partitions.iter().flat_map(|t| t.partitions.clone()).collect())
    }

    async fn ask(world: &World, version: i16, request: &ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
        world.ask(version, request).await
    }

    #[tokio::test]
    async fn members_beat_in_every_version() {
        let world = World::new();
        world.create("t", 3, &[]).await;
        let first = ask(&world, 0, &joining("")).await;
        assert_eq!((first.error_code, first.member_epoch, first.heartbeat_interval_ms), (0, 1, 5_000));
        assert_eq!(owned(first.assignment.as_ref()), Some(vec![0, 1, 2]));
        let member = first.member_id.expect("an id is given");
        let quiet = ConsumerGroupHeartbeatRequest::default().with_group_id(group("g")).with_member_id(member.clone()).with_member_epoch(1);
        for version in 0..=1 {
            let beaten = ask(&world, version, &quiet).await;
            assert_eq!((beaten.error_code, beaten.member_epoch, beaten.assignment), (0, 1, None));
            assert_eq!(ask(&world, version, &quiet.clone().with_member_epoch(3)).await.error_code, 110);
        }
        assert_eq!(ask(&world, 1, &joining("")).await.error_code, 42, "since version 1 clients make their ids");
        assert_eq!(ask(&world, 1, &joining("b").with_rebalance_timeout_ms(-1)).await.error_code, 42);
        assert_eq!(ask(&world, 1, &joining("b").with_server_assignor(Some(text("other")))).await.error_code, 112);
        assert_eq!(ask(&world, 1, &joining("b").with_subscribed_topic_regex(Some(text("[")))).await.error_code, 128);
        assert_eq!(ask(&world, 1, &joining("b").with_member_epoch(-3)).await.error_code, 42);
        assert_eq!(ask(&world, 1, &joining("b").with_group_id(group(""))).await.error_code, 24);
        for version in 0..=1 {
            let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group("g"), group("never")]);
            let described = world.ask(version, &request.with_include_authorized_operations(true)).await;
            let [found, never] = &described.groups[..] else { panic!("two groups") };
            assert_eq!((found.error_code, &*found.group_state, found.group_epoch, &*found.assignor_name), (0, "Stable", 1, "uniform"));
            let described = &found.members[0];
            assert_eq!((&described.member_id, &*described.assignment.topic_partitions[0].topic_name.0), (&member, "t"));
            assert_eq!((never.error_code, found.authorized_operations), (69, 3_400));
        }
        let listed = world.ask(5, &ListGroupsRequest::default()).await;
        assert_eq!((&*listed.groups[0].group_type, &*listed.groups[0].group_state), ("Consumer", "Stable"));
        let described = world.ask(6, &DescribeGroupsRequest::default().with_groups(vec![group("g")])).await;
        assert_eq!(described.groups[0].error_code, 69, "it is not of the classic protocol");
        assert_eq!(ask(&world, 1, &quiet.with_member_epoch(-1)).await.member_epoch, -1);
    }

    #[tokio::test]
    async fn members_commit_and_look_in_their_epoch() {
        let world = World::new();
        world.create("t", 1, &[]).await;
        let member = ask(&world, 1, &joining("a")).await.member_id.expect("an id");
        assert_eq!(commit(&world, 9, "t", &member, 1).await, 0);
        assert_eq!(commit(&world, 9, "t", &member, 2).await, 113);
        assert_eq!(commit(&world, 9, "t", &text("b"), 1).await, 25);
        let fetch = async |member: Option<&str>, epoch| {
            let one = OffsetFetchRequestGroup::default()
                .with_group_id(group("g"))
                .with_member_id(member.map(text))
                .with_member_epoch(epoch)
                .with_topics(None);
            let answer = world.ask(9, &OffsetFetchRequest::default().with_groups(vec![one])).await;
            (answer.groups[0].error_code, answer.groups[0].topics.len())
        };
        assert_eq!((fetch(Some("a"), 1).await, fetch(None, -1).await), ((0, 1), (0, 1)));
        assert_eq!((fetch(Some("a"), 2).await, fetch(Some("b"), 1).await), ((113, 0), (25, 0)));
    }
}

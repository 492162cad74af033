//! ConsumerGroupDescribe: v0-1 (KIP-848). Members of groups of the consumer protocol: what they have, and what they are to have.
//!
//! v1 the type of each member.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::messages::consumer_group_describe_response::{Assignment as WireAssignment, DescribedGroup, Member, TopicPartitions};
use kafka_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, TopicName as WireName};
use uuid::Uuid;

use super::broker::{Broker, Outcome};
use super::describe_groups::GROUP_OPERATIONS;
use super::error::{self, Asked};
use super::members;
use crate::group::GroupError;
use crate::group::consumer::{Assignment, ConsumerDescription, ConsumerMember};
use crate::types::{GroupId, TopicId};

/// Kafka's numbers for the protocols of members.
const CLASSIC: i8 = 0;
const CONSUMER: i8 = 1;
const MEMBER_TYPE_SINCE: i16 = 1;

pub(super) async fn answer(
    broker: Arc<Broker>,
    request: ConsumerGroupDescribeRequest,
    version: i16,
) -> Outcome<ConsumerGroupDescribeResponse> {
    let names: Vec<GroupId> = request.group_ids.iter().map(|group| GroupId(group.as_str().into())).collect();
    let described = match broker.parts.groups.describe_consumers(&names).await {
        Ok(described) => described,
        Err(error) => names.iter().map(|_| Err(error.clone())).collect(),
    };
    let group = |(name, described): (kafka_protocol::messages::GroupId, Result<ConsumerDescription, GroupError>)| {
        let group = match described {
            Ok(description) => group(description, version),
            Err(error) => refused(&error),
        };
        let allowed = request.include_authorized_operations && group.error_code == error::NONE;
        group.with_group_id(name).with_authorized_operations(if allowed { GROUP_OPERATIONS } else { i32::MIN })
    };
    let groups: Vec<DescribedGroup> = request.group_ids.iter().cloned().zip(described).map(group).collect();
    let code = error::first(groups.iter().map(|group| group.error_code));
    Outcome::new(ConsumerGroupDescribeResponse::default().with_groups(groups), code)
}

fn group(description: ConsumerDescription, version: i16) -> DescribedGroup {
    let members = description.members.into_iter().map(|one| member(one, &description.topics, version));
    DescribedGroup::default()
        .with_group_state(members::text(description.state))
        .with_group_epoch(description.epoch)
        .with_assignment_epoch(description.epoch)
        .with_assignor_name(members::text(description.assignor.name()))
        .with_members(members.collect())
}

fn member(one: ConsumerMember, topics: &BTreeMap<TopicId, Arc<str>>, version: i16) -> Member {
    let ConsumerMember { id, member } = one;
    let described = Member::default()
        .with_member_id(members::text(&id.0))
        .with_instance_id(member.instance.as_deref().map(members::text))
        .with_rack_id(member.rack.as_deref().map(members::text))
        .with_member_epoch(member.epoch)
        .with_client_id(members::text(&member.client_id))
        .with_client_host(members::text(&member.client_host))
        .with_subscribed_topic_names(member.names.iter().map(|name| WireName(members::text(name))).collect())
        .with_subscribed_topic_regex(member.pattern.as_deref().map(members::text))
        .with_assignment(assignment(&member.assigned, topics))
        .with_target_assignment(assignment(&member.target, topics));
    let protocol = if member.classic.is_some() { CLASSIC } else { CONSUMER };
    if version >= MEMBER_TYPE_SINCE { described.with_member_type(protocol) } else { described }
}

fn assignment(assignment: &Assignment, topics: &BTreeMap<TopicId, Arc<str>>) -> WireAssignment {
    let topic = |(id, partitions): (TopicId, &BTreeSet<i32>)| {
        // One that was deleted a moment ago has no name any more.
        let name = topics.get(&id).map(|name| members::text(name)).unwrap_or_default();
        TopicPartitions::default()
            .with_topic_id(Uuid::from_bytes(id.0))
            .with_topic_name(WireName(name))
            .with_partitions(partitions.iter().copied().collect())
    };
    WireAssignment::default().with_topic_partitions(assignment.topics().map(topic).collect())
}

fn refused(error: &GroupError) -> DescribedGroup {
    DescribedGroup::default()
        .with_error_code(error::group(Asked::Group, error).code())
        .with_error_message(Some(members::text(&error.to_string())))
        .with_group_state(members::text("Dead"))
}

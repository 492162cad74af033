//! ConsumerGroupHeartbeat: v0-1 (KIP-848). A member lives, says what it wants and owns, and learns what it is to have.
//!
//! v1 subscriptions by pattern; the client makes its member id itself.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions as Owned;
use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment as WireAssignment, TopicPartitions};
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use uuid::Uuid;

use super::broker::{Broker, Outcome};
use super::error::{self, Asked};
use super::members;
use crate::group::GroupError;
use crate::group::consumer::{Assignment, Assignor, Beaten, Heartbeat, LEFT_FOR_NOW};
use crate::protocol::RequestHeader;
use crate::types::{GroupId, MemberId, TopicId, TopicPartition};

const OWN_ID_SINCE: i16 = 1;

pub(super) async fn answer(
    broker: Arc<Broker>,
    request: ConsumerGroupHeartbeatRequest,
    header: RequestHeader,
) -> Outcome<ConsumerGroupHeartbeatResponse> {
    match beat(&broker, &request, &header).await {
        Ok((beaten, interval)) => Outcome::fine(told(beaten, interval)),
        Err(error) => {
            let code = error::group(Asked::Member, &error).code();
            let answer =
                ConsumerGroupHeartbeatResponse::default().with_error_code(code).with_error_message(Some(members::text(&error.to_string())));
            Outcome::new(answer, code)
        }
    }
}

async fn beat(broker: &Broker, request: &ConsumerGroupHeartbeatRequest, header: &RequestHeader) -> Result<(Beaten, Duration), GroupError> {
    check(request, header.version)?;
    let group = GroupId(request.group_id.as_str().into());
    let member = members::member(&request.member_id).unwrap_or_else(|| new_id(broker));
    let set = broker.group_settings.of(&group).await;
    let heartbeat = Heartbeat { session_timeout: set.consumer_session_timeout, ..heartbeat(request, header, member)? };
    let interval = set.consumer_heartbeat_interval.unwrap_or(broker.parts.groups.settings().consumer.heartbeat_interval);
    Ok((broker.parts.groups.consumer_heartbeat(&group, heartbeat).await?, interval))
}

/// Before version 1 clients are given theirs.
fn new_id(broker: &Broker) -> MemberId {
    MemberId(broker.parts.ids.topic().to_string().into())
}

fn check(request: &ConsumerGroupHeartbeatRequest, version: i16) -> Result<(), GroupError> {
    let refuse = |why| Err(GroupError::InvalidRequest(why));
    let empty = |text: &Option<kafka_protocol::protocol::StrBytes>| text.as_ref().is_some_and(|text| text.is_empty());
    if request.member_id.is_empty() && (version >= OWN_ID_SINCE || request.member_epoch != 0) {
        return refuse("the member id is empty");
    }
    if empty(&request.instance_id) || empty(&request.rack_id) || empty(&request.server_assignor) {
        return refuse("the instance id, rack id or assignor is empty");
    }
    match request.member_epoch {
        0 if request.rebalance_timeout_ms < 0 => refuse("who joins names its rebalance timeout"),
        0 if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) => refuse("who joins owns no partitions"),
        0 if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() => {
            refuse("who joins says what it wants to read")
        }
        LEFT_FOR_NOW if request.instance_id.is_none() => refuse("only a static member leaves for now"),
        epoch if epoch < LEFT_FOR_NOW => refuse("there is no such member epoch"),
        _epoch => Ok(()),
    }
}

fn heartbeat(request: &ConsumerGroupHeartbeatRequest, header: &RequestHeader, member: MemberId) -> Result<Heartbeat, GroupError> {
    let assignor = request.server_assignor.as_ref();
    let assignor = assignor.map(|name| Assignor::named(name).ok_or(GroupError::UnsupportedAssignor)).transpose()?;
    let names = request.subscribed_topic_names.as_ref();
    Ok(Heartbeat {
        member,
        epoch: request.member_epoch,
        instance: members::instance(request.instance_id.as_ref()),
        rack: members::instance(request.rack_id.as_ref()),
        client_id: header.client_id.as_deref().unwrap_or_default().into(),
        client_host: Arc::clone(&header.client_host),
        rebalance_timeout: u64::try_from(request.rebalance_timeout_ms).ok().map(Duration::from_millis),
        session_timeout: None,
        names: names.map(|names| names.iter().map(|name| name.as_str().into()).collect()),
        pattern: members::instance(request.subscribed_topic_regex.as_ref()),
        assignor,
        owned: request.topic_partitions.as_ref().map(|owned| assignment(owned)),
        catalog: None,
    })
}

fn assignment(owned: &[Owned]) -> Assignment {
    let logs = |topic: &Owned| {
        let id = TopicId(*topic.topic_id.as_bytes());
        topic.partitions.clone().into_iter().map(move |partition| TopicPartition::new(id, partition))
    };
    owned.iter().flat_map(logs).collect()
}

fn told(beaten: Beaten, interval: Duration) -> ConsumerGroupHeartbeatResponse {
    let topic = |(id, partitions): (TopicId, &std::collections::BTreeSet<i32>)| {
        TopicPartitions::default().with_topic_id(Uuid::from_bytes(id.0)).with_partitions(partitions.iter().copied().collect())
    };
    let assignment =
        beaten.assignment.map(|assigned| WireAssignment::default().with_topic_partitions(assigned.topics().map(topic).collect()));
    ConsumerGroupHeartbeatResponse::default()
        .with_member_id(Some(members::text(&beaten.member.0)))
        .with_member_epoch(beaten.epoch)
        .with_heartbeat_interval_ms(i32::try_from(interval.as_millis()).unwrap_or(i32::MAX))
        .with_assignment(assignment)
}

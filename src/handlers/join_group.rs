//! JoinGroup: v0-9. Takes part in a group's next generation; waits until everybody has joined.
//!
//! v1 rebalance timeout. v2 throttle time. v4 the client is told its member id and comes back with it (KIP-394). v5 static members (KIP-345). v6 flexible.
//! v7 protocol type in the answer. v8 the reason. v9 a leader can be told not to assign (KIP-814).

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;

use super::broker::{Broker, Outcome};
use super::error::{self, Asked};
use super::members;
use crate::group::GroupError;
use crate::group::classic::{Join, Joined, JoinedMember, Protocol};
use crate::protocol::RequestHeader;
use crate::types::GroupId;

const REBALANCE_TIMEOUT_SINCE: i16 = 1;
const ID_FIRST_SINCE: i16 = 4;
const NO_PROTOCOL_SINCE: i16 = 7;
const SKIP_ASSIGNMENT_SINCE: i16 = 9;

pub(super) async fn answer(broker: Arc<Broker>, request: JoinGroupRequest, header: RequestHeader) -> Outcome<JoinGroupResponse> {
    let group = GroupId(request.group_id.as_str().into());
    let join = join(&broker, &request, &header);
    match broker.parts.groups.join(&group, join).await {
        Ok(joined) => Outcome::fine(told(joined, header.version)),
        Err(error) => refused(&request, &error, header.version),
    }
}

fn join(broker: &Broker, request: &JoinGroupRequest, header: &RequestHeader) -> Join {
    let client_id = header.client_id.as_deref().unwrap_or_default();
    let instance = members::instance(request.group_instance_id.as_ref());
    let session_timeout = millis(request.session_timeout_ms);
    let rebalance_timeout = if header.version >= REBALANCE_TIMEOUT_SINCE { millis(request.rebalance_timeout_ms) } else { session_timeout };
    Join {
        member: members::member(&request.member_id),
        new_id: broker.parts.groups.member_id(instance.as_deref().unwrap_or(client_id)),
        instance,
        client_id: client_id.into(),
        client_host: Arc::clone(&header.client_host),
        session_timeout,
        rebalance_timeout,
        protocol_type: request.protocol_type.as_str().into(),
        protocols: request.protocols.iter().map(protocol).collect(),
        id_first: header.version >= ID_FIRST_SINCE,
        may_skip_assignment: header.version >= SKIP_ASSIGNMENT_SINCE,
    }
}

fn millis(millis: i32) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// Copied: a slice would keep the whole request in memory.
fn protocol(protocol: &JoinGroupRequestProtocol) -> Protocol {
    Protocol { name: protocol.name.as_str().into(), metadata: bytes::Bytes::copy_from_slice(&protocol.metadata) }
}

fn told(joined: Joined, version: i16) -> JoinGroupResponse {
    let member = |member: JoinedMember| {
        JoinGroupResponseMember::default()
            .with_member_id(members::text(&member.member.0))
            .with_group_instance_id(member.instance.as_deref().map(members::text))
            .with_metadata(member.metadata)
    };
    JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_type(joined.protocol_type.as_deref().map(members::text))
        .with_protocol_name(name(joined.protocol.as_deref(), version))
        .with_leader(members::text(&joined.leader.0))
        .with_skip_assignment(joined.skip_assignment)
        .with_member_id(members::text(&joined.member.0))
        .with_members(joined.members.into_iter().map(member).collect())
}

/// Null is said since version 7.
fn name(protocol: Option<&str>, version: i16) -> Option<StrBytes> {
    protocol.map(members::text).or_else(|| (version < NO_PROTOCOL_SINCE).then(StrBytes::default))
}

fn refused(request: &JoinGroupRequest, error: &GroupError, version: i16) -> Outcome<JoinGroupResponse> {
    let code = error::group(Asked::Member, error).code();
    let member = match error {
        GroupError::MemberIdRequired(member) => members::text(&member.0),
        _other => request.member_id.clone(),
    };
    let answer = JoinGroupResponse::default()
        .with_error_code(code)
        .with_generation_id(-1)
        .with_protocol_name(name(None, version))
        .with_member_id(member);
    Outcome::new(answer, code)
}

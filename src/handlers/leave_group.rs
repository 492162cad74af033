//! LeaveGroup: v0-5. Members leave, or are removed by an administrator.
//!
//! v1 throttle time. v3 several members, also by instance id (KIP-345). v4 flexible. v5 the reason.

use std::sync::Arc;

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::broker::{Broker, Outcome};
use super::error::{self, Asked};
use super::members;
use crate::group::GroupError;
use crate::group::classic::Leaver;
use crate::types::GroupId;

const MANY_SINCE: i16 = 3;

pub(super) async fn answer(broker: Arc<Broker>, request: LeaveGroupRequest, version: i16) -> Outcome<LeaveGroupResponse> {
    let one = || vec![MemberIdentity::default().with_member_id(request.member_id.clone())];
    let leaving = if version >= MANY_SINCE { request.members.clone() } else { one() };
    let leaver = |member: &MemberIdentity| Leaver {
        member: members::member(&member.member_id),
        instance: members::instance(member.group_instance_id.as_ref()),
    };
    let group = GroupId(request.group_id.as_str().into());
    let left = broker.parts.groups.leave(&group, leaving.iter().map(leaver).collect()).await;
    let code = |outcome: &Result<(), GroupError>| match outcome {
        Ok(()) => error::NONE,
        Err(error) => error::group(Asked::Member, error).code(),
    };
    let answer = LeaveGroupResponse::default();
    let answer = match left {
        Err(error) => answer.with_error_code(error::group(Asked::Member, &error).code()),
        Ok(left) if version < MANY_SINCE => answer.with_error_code(left.first().map_or(error::NONE, code)),
        Ok(left) => answer.with_members(leaving.into_iter().zip(left.iter().map(code)).map(member).collect()),
    };
    let first = error::first([answer.error_code].into_iter().chain(answer.members.iter().map(|member| member.error_code)));
    Outcome::new(answer, first)
}

fn member((member, code): (MemberIdentity, i16)) -> MemberResponse {
    MemberResponse::default().with_member_id(member.member_id).with_group_instance_id(member.group_instance_id).with_error_code(code)
}

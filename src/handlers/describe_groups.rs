//! DescribeGroups: v0-6. Members of classic groups, and what they own.
//!
//! v1 throttle time. v3 authorized operations. v4 instance ids. v5 flexible. v6 an error and its message for groups that are not there; before, such a group
//! is "Dead".

use std::sync::Arc;

use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};

use super::broker::{Broker, Outcome};
use super::error::{self, Asked};
use super::members;
use crate::group::GroupError;
use crate::group::classic::{Description, MemberDescription};
use crate::types::GroupId;

/// Read, delete, describe, describe and alter configurations: all there is, without access control (KIP-430).
pub(super) const GROUP_OPERATIONS: i32 = 0b1101_0100_1000;
const NOT_FOUND_SINCE: i16 = 6;

pub(super) async fn answer(broker: Arc<Broker>, request: DescribeGroupsRequest, version: i16) -> Outcome<DescribeGroupsResponse> {
    let names: Vec<GroupId> = request.groups.iter().map(|group| GroupId(group.as_str().into())).collect();
    let described = match broker.parts.groups.describe(&names).await {
        Ok(described) => described,
        Err(error) => names.iter().map(|_| Err(error.clone())).collect(),
    };
    let group = |(name, described): (kafka_protocol::messages::GroupId, Result<Description, GroupError>)| {
        let group = match described {
            Ok(description) => group(description),
            Err(error) => refused(&error, version),
        };
        let allowed = request.include_authorized_operations && group.error_code == error::NONE;
        group.with_group_id(name).with_authorized_operations(if allowed { GROUP_OPERATIONS } else { i32::MIN })
    };
    let groups: Vec<DescribedGroup> = request.groups.iter().cloned().zip(described).map(group).collect();
    let code = error::first(groups.iter().map(|group| group.error_code));
    Outcome::new(DescribeGroupsResponse::default().with_groups(groups), code)
}

fn group(description: Description) -> DescribedGroup {
    DescribedGroup::default()
        .with_group_state(members::text(description.state))
        .with_protocol_type(members::text(&description.protocol_type))
        .with_protocol_data(members::text(&description.protocol))
        .with_members(description.members.into_iter().map(member).collect())
}

fn member(member: MemberDescription) -> DescribedGroupMember {
    DescribedGroupMember::default()
        .with_member_id(members::text(&member.member.0))
        .with_group_instance_id(member.instance.as_deref().map(members::text))
        .with_client_id(members::text(&member.client_id))
        .with_client_host(members::text(&member.client_host))
        .with_member_metadata(member.metadata)
        .with_member_assignment(member.assignment)
}

fn refused(error: &GroupError, version: i16) -> DescribedGroup {
    let group = DescribedGroup::default();
    match error {
        GroupError::NotFound if version < NOT_FOUND_SINCE => group.with_group_state(members::text("Dead")),
        GroupError::NotFound => group
            .with_group_state(members::text("Dead"))
            .with_error_code(error::group(Asked::Group, error).code())
            .with_error_message(Some(members::text(&error.to_string()))),
        other => group.with_error_code(error::group(Asked::Group, other).code()),
    }
}

//! SyncGroup: v0-5. The leader tells who owns what; everybody is told its share, and waits for it.
//!
//! v1 throttle time. v3 static members (KIP-345). v4 flexible. v5 protocol type and name, so that a generation cannot be mistaken (KIP-559).

use std::sync::Arc;

use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::broker::{Broker, Outcome};
use super::error::{self, Asked};
use super::members;
use crate::group::GroupError;
use crate::group::classic::{Assigned, Sync};
use crate::protocol::RequestHeader;
use crate::types::{GroupId, MemberId};

const PROTOCOL_SINCE: i16 = 5;

pub(super) async fn answer(broker: Arc<Broker>, request: SyncGroupRequest, header: RequestHeader) -> Outcome<SyncGroupResponse> {
    match sync(&broker, &request, header.version).await {
        Ok(assigned) => Outcome::fine(
            SyncGroupResponse::default()
                .with_protocol_type(assigned.protocol_type.as_deref().map(members::text))
                .with_protocol_name(assigned.protocol.as_deref().map(members::text))
                .with_assignment(assigned.assignment),
        ),
        Err(error) => {
            let code = error::group(Asked::Member, &error).code();
            Outcome::new(SyncGroupResponse::default().with_error_code(code), code)
        }
    }
}

async fn sync(broker: &Broker, request: &SyncGroupRequest, version: i16) -> Result<Assigned, GroupError> {
    if version >= PROTOCOL_SINCE && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        return Err(GroupError::InconsistentProtocol);
    }
    let assignment =
        |share: &SyncGroupRequestAssignment| (MemberId(share.member_id.as_str().into()), bytes::Bytes::copy_from_slice(&share.assignment));
    let sync = Sync {
        member: members::member(&request.member_id).ok_or(GroupError::UnknownMember)?,
        instance: members::instance(request.group_instance_id.as_ref()),
        generation: request.generation_id,
        protocol_type: request.protocol_type.as_ref().map(|text| text.as_str().into()),
        protocol: request.protocol_name.as_ref().map(|text| text.as_str().into()),
        assignments: request.assignments.iter().map(assignment).collect(),
    };
    broker.parts.groups.sync(&GroupId(request.group_id.as_str().into()), sync).await
}

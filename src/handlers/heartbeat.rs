//! Heartbeat: v0-4. A member lives, and learns whether its group rebalances.
//!
//! v1 throttle time. v3 static members (KIP-345). v4 flexible.

use std::sync::Arc;

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::broker::{Broker, Outcome};
use super::error::{self, Asked};
use super::members;
use crate::group::GroupError;
use crate::types::GroupId;

pub(super) async fn answer(broker: Arc<Broker>, request: HeartbeatRequest, _version: i16) -> Outcome<HeartbeatResponse> {
    let group = GroupId(request.group_id.as_str().into());
    let instance = request.group_instance_id.as_ref().map(kafka_protocol::protocol::StrBytes::as_str);
    let beaten = match members::member(&request.member_id) {
        Some(member) => broker.parts.groups.heartbeat(&group, &member, instance, request.generation_id).await,
        None => Err(GroupError::UnknownMember),
    };
    let code = beaten.err().map_or(error::NONE, |error| error::group(Asked::Member, &error).code());
    Outcome::new(HeartbeatResponse::default().with_error_code(code), code)
}

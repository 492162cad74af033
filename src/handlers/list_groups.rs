//! ListGroups: v0-5. All groups of the cluster, whichever agent is asked.
//!
//! v1 throttle time. v3 flexible. v4 states, and a filter by them (KIP-518). v5 types, and a filter by them (KIP-848).

use std::sync::Arc;

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId as WireGroup, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::broker::{Broker, Outcome};
use super::error::{self, Asked};
use super::members;
use crate::group::Listed;

pub(super) async fn answer(broker: Arc<Broker>, request: ListGroupsRequest, _version: i16) -> Outcome<ListGroupsResponse> {
    let listed = match broker.parts.groups.list().await {
        Ok(listed) => listed,
        Err(error) => {
            let code = error::group(Asked::Group, &error).code();
            return Outcome::new(ListGroupsResponse::default().with_error_code(code), code);
        }
    };
    let wanted = |group: &Listed| passes(&request.states_filter, &group.phase) && passes(&request.types_filter, &group.kind);
    let groups = listed.iter().filter(|group| wanted(group)).map(group).collect();
    Outcome::fine(ListGroupsResponse::default().with_groups(groups))
}

/// No filter is one that lets everything through.
fn passes(filter: &[StrBytes], word: &str) -> bool {
    filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(word))
}

fn group(listed: &Listed) -> ListedGroup {
    ListedGroup::default()
        .with_group_id(WireGroup(members::text(&listed.group.0)))
        .with_protocol_type(members::text(&listed.protocol_type))
        .with_group_state(members::text(&listed.phase))
        .with_group_type(members::text(&listed.kind))
}

//! DeleteGroups: v0-2. Groups without members are forgotten, with their offsets.
//!
//! v1 is as v0. v2 flexible.

use std::sync::Arc;

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::broker::{Broker, Outcome};
use super::error::{self, Asked};
use crate::types::GroupId;

pub(super) async fn answer(broker: Arc<Broker>, request: DeleteGroupsRequest, _version: i16) -> Outcome<DeleteGroupsResponse> {
    let mut results = Vec::new();
    for group in request.groups_names {
        let deleted = broker.parts.groups.delete(&GroupId(group.as_str().into())).await;
        let code = deleted.err().map_or(error::NONE, |error| error::group(Asked::Group, &error).code());
        results.push(DeletableGroupResult::default().with_group_id(group).with_error_code(code));
    }
    let code = error::first(results.iter().map(|result| result.error_code));
    Outcome::new(DeleteGroupsResponse::default().with_results(results), code)
}

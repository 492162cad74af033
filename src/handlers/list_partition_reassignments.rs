//! ListPartitionReassignments: v0 (KIP-455). No partition ever moves, so none is on its way.

use std::sync::Arc;

use kafka_protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use super::broker::{Broker, Outcome};

pub(super) async fn answer(
    _broker: Arc<Broker>,
    _request: ListPartitionReassignmentsRequest,
    _version: i16,
) -> Outcome<ListPartitionReassignmentsResponse> {
    Outcome::fine(ListPartitionReassignmentsResponse::default())
}

//! AlterPartitionReassignments: v0-1 (KIP-455). Partitions have no replicas that could move: the leaders that clients are told of are the assignment
//! that holds, anything else is refused.
//!
//! v1 whether the number of replicas may change.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::alter_partition_reassignments_response::{ReassignablePartitionResponse, ReassignableTopicResponse};
use kafka_protocol::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};
use kafka_protocol::protocol::StrBytes;

use super::broker::{Broker, Outcome};
use super::error::{self, NamedBy, Refused};
use super::placement::{self, Leaders, Node};
use super::topics::{Found, Key};
use crate::types::{NodeId, TopicName, TopicPartition};

pub(super) async fn answer(
    broker: Arc<Broker>,
    request: AlterPartitionReassignmentsRequest,
    version: i16,
) -> Outcome<AlterPartitionReassignmentsResponse> {
    let nodes = broker.nodes.live().await;
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let found = find(&broker, topic).await;
        let partition = |partition: &ReassignablePartition| result(partition, reassign(&found, partition, &nodes));
        let partitions = topic.partitions.iter().map(partition).collect();
        responses.push(ReassignableTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions));
    }
    let code = error::first(responses.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code));
    let mut answer = AlterPartitionReassignmentsResponse::default().with_responses(responses);
    if version >= 1 {
        answer.allow_replication_factor_change = request.allow_replication_factor_change;
    }
    Outcome::new(answer, code)
}

async fn find(broker: &Broker, topic: &ReassignableTopic) -> Result<Option<Arc<Found>>, Refused> {
    let Ok(name) = TopicName::parse(&topic.name) else { return Ok(None) };
    let found = broker.topics.find(&[Key::Name(name)]).await.map_err(|failed| error::refused(&failed))?;
    Ok(found.into_iter().next().flatten())
}

fn reassign(found: &Result<Option<Arc<Found>>, Refused>, wanted: &ReassignablePartition, nodes: &[Node]) -> Result<(), Refused> {
    let found = found.as_ref().map_err(Clone::clone)?.as_ref().filter(|found| found.has_partition(wanted.partition_index));
    let found = found.ok_or_else(|| (NamedBy::Name.unknown(), "there is no such topic or partition".to_owned()))?;
    let log = TopicPartition::new(found.topic.id, wanted.partition_index);
    let (leader, mut is) = (placement::leader(log, nodes), Leaders::for_client(nodes, None).replicas(log));
    is.sort_unstable();
    match wanted.replicas.as_deref() {
        // A wish to end a reassignment.
        None => Err((ResponseError::NoReassignmentInProgress, "No partition reassignment is in progress.".to_owned())),
        Some(replicas) if replicas.iter().map(|replica| NodeId(replica.0)).collect::<BTreeSet<_>>().into_iter().eq(is) => Ok(()),
        Some(_) => {
            let message = format!(
                "partitions have no replicas here and cannot be moved: any broker serves any partition, and leaders follow the live brokers \
                 (the leader of this one is {leader})"
            );
            Err((ResponseError::InvalidReplicaAssignment, message))
        }
    }
}

fn result(partition: &ReassignablePartition, done: Result<(), Refused>) -> ReassignablePartitionResponse {
    let result = ReassignablePartitionResponse::default().with_partition_index(partition.partition_index);
    match done {
        Ok(()) => result,
        Err((error, message)) => result.with_error_code(error.code()).with_error_message(Some(StrBytes::from_string(message))),
    }
}

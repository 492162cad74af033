//! ElectLeaders: v0-2 (KIP-183, KIP-460). There are no replicas to choose between: every partition has the leader it should have.
//!
//! v1 type of election. v2 flexible.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use kafka_protocol::protocol::StrBytes;

use super::broker::{Broker, Outcome};
use super::error::{self, NamedBy, Refused};
use super::topics::{Found, Key};
use crate::types::TopicName;

pub(super) async fn answer(broker: Arc<Broker>, request: ElectLeadersRequest, _version: i16) -> Outcome<ElectLeadersResponse> {
    // Asked for all partitions, Kafka names only those that got a new leader.
    let Some(wanted) = &request.topic_partitions else { return Outcome::fine(ElectLeadersResponse::default()) };
    let mut results = Vec::with_capacity(wanted.len());
    for topic in wanted {
        let found = find(&broker, topic).await;
        let partition = |index: &i32| result(*index, elect(&found, *index));
        let partitions = topic.partitions.iter().map(partition).collect();
        results.push(ReplicaElectionResult::default().with_topic(topic.topic.clone()).with_partition_result(partitions));
    }
    let code = error::first(results.iter().flat_map(|result| &result.partition_result).map(|partition| partition.error_code));
    Outcome::new(ElectLeadersResponse::default().with_replica_election_results(results), code)
}

async fn find(broker: &Broker, topic: &TopicPartitions) -> Result<Option<Arc<Found>>, Refused> {
    let Ok(name) = TopicName::parse(&topic.topic) else { return Ok(None) };
    let found = broker.topics.find(&[Key::Name(name)]).await.map_err(|failed| error::refused(&failed))?;
    Ok(found.into_iter().next().flatten())
}

/// Never a new leader.
fn elect(found: &Result<Option<Arc<Found>>, Refused>, index: i32) -> Refused {
    match found {
        Err(refused) => refused.clone(),
        Ok(Some(found)) if found.has_partition(index) => {
            (ResponseError::ElectionNotNeeded, "Leader election not needed for topic partition.".to_owned())
        }
        Ok(Some(_) | None) => (NamedBy::Name.unknown(), "there is no such topic or partition".to_owned()),
    }
}

fn result(index: i32, (error, message): Refused) -> PartitionResult {
    PartitionResult::default()
        .with_partition_id(index)
        .with_error_code(error.code())
        .with_error_message(Some(StrBytes::from_string(message)))
}

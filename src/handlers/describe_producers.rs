//! DescribeProducers: v0 (KIP-664). The idempotent producers that logs know of.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState as WireState, TopicResponse};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId as WireId};
use kafka_protocol::protocol::StrBytes;

use super::broker::{Broker, Outcome};
use super::error::{self, NamedBy, Refused};
use super::topics::Key;
use crate::partition::ProducerState;
use crate::types::{ProducerId, TopicName, TopicPartition};

/// Producers told of in one answer.
const MOST: usize = 50_000;

/// What is not known, or not there: a transaction, its coordinator, a sequence.
const NONE: i32 = -1;

type States = HashMap<TopicPartition, Vec<WireState>>;

pub(super) async fn answer(broker: Arc<Broker>, request: DescribeProducersRequest, _version: i16) -> Outcome<DescribeProducersResponse> {
    let logs = logs(&broker, &request).await;
    let known: Vec<TopicPartition> = logs.iter().flatten().copied().collect();
    let states = states(&broker, &known).await;
    let mut logs = logs.into_iter();
    let mut topic = |topic: &TopicRequest| {
        let partition = |(index, log): (&i32, Result<TopicPartition, Refused>)| answer_partition(*index, log, &states);
        let partitions = topic.partition_indexes.iter().zip(logs.by_ref()).map(partition).collect();
        TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
    };
    let topics: Vec<TopicResponse> = request.topics.iter().map(&mut topic).collect();
    let code = error::first(topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code));
    Outcome::new(DescribeProducersResponse::default().with_topics(topics), code)
}

/// The logs asked about, in order.
async fn logs(broker: &Broker, request: &DescribeProducersRequest) -> Vec<Result<TopicPartition, Refused>> {
    let keys: Vec<Option<Key>> = request.topics.iter().map(|topic| TopicName::parse(&topic.name).ok().map(Key::Name)).collect();
    let legal: Vec<Key> = keys.iter().flatten().cloned().collect();
    let mut found = match broker.topics.find(&legal).await {
        Ok(found) => found.into_iter(),
        Err(failed) => {
            let refused = error::refused(&failed);
            return request.topics.iter().flat_map(|topic| &topic.partition_indexes).map(|_| Err(refused.clone())).collect();
        }
    };
    let unknown = || (NamedBy::Name.unknown(), "there is no such topic or partition".to_owned());
    let mut logs = Vec::new();
    for (topic, key) in request.topics.iter().zip(&keys) {
        let found = key.as_ref().and_then(|_| found.next().flatten());
        let log = |index: &i32| {
            let found = found.as_ref().filter(|found| found.has_partition(*index)).ok_or_else(unknown)?;
            Ok(TopicPartition::new(found.topic.id, *index))
        };
        logs.extend(topic.partition_indexes.iter().map(log));
    }
    logs
}

async fn states(broker: &Broker, logs: &[TopicPartition]) -> Result<States, Refused> {
    let mut states = States::new();
    if !logs.is_empty() {
        let found = broker.parts.metastore.producers(logs, MOST).await.map_err(|failed| error::refused(&failed))?;
        for ((log, id), state) in found {
            states.entry(log).or_default().push(wire(id, &state));
        }
    }
    Ok(states)
}

fn wire(id: ProducerId, state: &ProducerState) -> WireState {
    WireState::default()
        .with_producer_id(WireId(id.0))
        .with_producer_epoch(i32::from(state.epoch.0))
        .with_last_sequence(state.recent.back().map_or(NONE, |batch| batch.last_sequence.0))
        .with_last_timestamp(state.last_used.0)
        .with_coordinator_epoch(NONE)
        .with_current_txn_start_offset(i64::from(NONE))
}

fn answer_partition(index: i32, log: Result<TopicPartition, Refused>, states: &Result<States, Refused>) -> PartitionResponse {
    let answer = PartitionResponse::default().with_partition_index(index);
    let refuse = |answer: PartitionResponse, (error, message): Refused| {
        let error: ResponseError = error;
        answer.with_error_code(error.code()).with_error_message(Some(StrBytes::from_string(message)))
    };
    match (log, states) {
        (Ok(log), Ok(states)) => answer.with_active_producers(states.get(&log).cloned().unwrap_or_default()),
        (Err(refused), _) => refuse(answer, refused),
        (Ok(_), Err(refused)) => refuse(answer, refused.clone()),
    }
}

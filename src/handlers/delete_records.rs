//! DeleteRecords: v0-2 (KIP-107). Moves the start of logs, at once for every reader; the segments behind it are swept later. Done in the ordered
//! stage.
//!
//! v1 as v0. v2 flexible.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::broker::{Broker, Outcome};
use super::error::{self, Asked, NamedBy};
use super::topics::{Found, Key};
use crate::metastore::{DecideTrim, Trimmed};
use crate::partition::{TrimRefused, TrimTo, trim};
use crate::types::{Head, Offset, TopicName, TopicPartition};

/// What clients send for all records.
const HIGH_WATERMARK: i64 = -1;

type Wanted = Result<(TopicPartition, TrimTo), ResponseError>;

pub(super) async fn answer(broker: Arc<Broker>, request: DeleteRecordsRequest, _version: i16) -> Outcome<DeleteRecordsResponse> {
    let wanted = wanted(&broker, &request).await;
    let heads = trim_all(&broker, wanted).await;
    let code = error::first(heads.iter().map(|head| head.as_ref().err().map_or(error::NONE, ResponseError::code)));
    let mut heads = heads.into_iter();
    let mut topic = |topic: &DeleteRecordsTopic| {
        let partitions = topic.partitions.iter().zip(heads.by_ref()).map(|(partition, head)| result(partition, head)).collect();
        DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions)
    };
    Outcome::new(DeleteRecordsResponse::default().with_topics(request.topics.iter().map(&mut topic).collect()), code)
}

/// For each partition in order: what is to be deleted, or why nothing can be.
async fn wanted(broker: &Broker, request: &DeleteRecordsRequest) -> Vec<Wanted> {
    let keys: Vec<Option<Key>> = request.topics.iter().map(|topic| TopicName::parse(&topic.name).ok().map(Key::Name)).collect();
    let legal: Vec<Key> = keys.iter().flatten().cloned().collect();
    let mut found = match broker.topics.find(&legal).await {
        Ok(found) => found.into_iter(),
        Err(failed) => {
            let error = error::meta(Asked::Admin, &failed);
            return request.topics.iter().flat_map(|topic| &topic.partitions).map(|_| Err(error)).collect();
        }
    };
    let mut wanted = Vec::new();
    for (topic, key) in request.topics.iter().zip(&keys) {
        let found = key.as_ref().and_then(|_| found.next().flatten());
        wanted.extend(topic.partitions.iter().map(|partition| check(found.as_deref(), partition)));
    }
    wanted
}

fn check(found: Option<&Found>, partition: &DeleteRecordsPartition) -> Wanted {
    let found = found.filter(|found| found.has_partition(partition.partition_index)).ok_or(NamedBy::Name.unknown())?;
    // Only compaction may take records from a topic that is only compacted.
    if !found.settings.deletes {
        return Err(ResponseError::PolicyViolation);
    }
    let to = match partition.offset {
        HIGH_WATERMARK => TrimTo::HighWatermark,
        offset => TrimTo::Offset(Offset(offset)),
    };
    Ok((TopicPartition::new(found.topic.id, partition.partition_index), to))
}

/// The heads after the deletion, in the order of what was wanted.
async fn trim_all(broker: &Broker, wanted: Vec<Wanted>) -> Vec<Result<Head, ResponseError>> {
    let trims: Vec<(TopicPartition, TrimTo)> = wanted.iter().flatten().copied().collect();
    let decide: DecideTrim = Arc::new(trim);
    let trimmed = if trims.is_empty() { Ok(Vec::new()) } else { broker.parts.metastore.trim_logs(&trims, &decide).await };
    let trimmed = match trimmed {
        Ok(trimmed) => trimmed,
        Err(failed) => {
            let error = error::meta(Asked::Admin, &failed);
            return wanted.into_iter().map(|wanted| wanted.and(Err(error))).collect();
        }
    };
    let moved: Vec<_> = trims.iter().zip(&trimmed).filter_map(|((log, _), trimmed)| Some((*log, (*trimmed)?.ok()?))).collect();
    broker.parts.watermarks.publish(&moved);
    let mut trimmed = trimmed.into_iter();
    wanted.into_iter().map(|wanted| wanted.and_then(|_| outcome(trimmed.next().flatten()))).collect()
}

fn outcome(trimmed: Trimmed) -> Result<Head, ResponseError> {
    match trimmed {
        Some(Ok(head)) => Ok(head),
        Some(Err(TrimRefused::OutOfRange { .. })) => Err(ResponseError::OffsetOutOfRange),
        None => Err(NamedBy::Name.unknown()),
    }
}

fn result(partition: &DeleteRecordsPartition, head: Result<Head, ResponseError>) -> DeleteRecordsPartitionResult {
    let result = DeleteRecordsPartitionResult::default().with_partition_index(partition.partition_index);
    match head {
        Ok(head) => result.with_low_watermark(head.log_start.0),
        Err(error) => result.with_low_watermark(-1).with_error_code(error.code()),
    }
}

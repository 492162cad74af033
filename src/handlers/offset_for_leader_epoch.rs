//! OffsetForLeaderEpoch: v2-4. Where a leader epoch ends (KIP-101, KIP-320). There is one epoch, 0, and it ends at the high watermark.
//!
//! v3 replica id. v4 flexible.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::broker::{Broker, Outcome};
use super::error::{self, Asked, NamedBy};
use super::topics::{Found, Key};
use crate::types::{Head, TopicName, TopicPartition};

type Ask = Result<TopicPartition, ResponseError>;

pub(super) async fn answer(
    broker: Arc<Broker>,
    request: OffsetForLeaderEpochRequest,
    _version: i16,
) -> Outcome<OffsetForLeaderEpochResponse> {
    let asked = ask(&broker, &request).await;
    let logs: Vec<TopicPartition> = asked.iter().flatten().copied().collect();
    let heads = if logs.is_empty() { Ok(Vec::new()) } else { broker.parts.metastore.heads(&logs).await };
    let (mut heads, failed) = match heads {
        Ok(heads) => (heads.into_iter(), None),
        Err(failed) => (Vec::new().into_iter(), Some(error::meta(Asked::Log, &failed))),
    };
    let mut ends = asked.into_iter().map(|asked| {
        asked?;
        failed.map_or_else(|| heads.next().flatten().ok_or(NamedBy::Name.unknown()), Err)
    });
    let mut topic = |topic: &OffsetForLeaderTopic| {
        let partitions = topic.partitions.iter().zip(ends.by_ref()).map(|(partition, head)| end(partition, head)).collect();
        OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions)
    };
    let topics: Vec<OffsetForLeaderTopicResult> = request.topics.iter().map(&mut topic).collect();
    let code = error::first(topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code));
    Outcome::new(OffsetForLeaderEpochResponse::default().with_topics(topics), code)
}

async fn ask(broker: &Broker, request: &OffsetForLeaderEpochRequest) -> Vec<Ask> {
    let keys: Vec<Option<Key>> = request.topics.iter().map(|topic| TopicName::parse(&topic.topic).ok().map(Key::Name)).collect();
    let legal: Vec<Key> = keys.iter().flatten().cloned().collect();
    let mut found = match broker.topics.find(&legal).await {
        Ok(found) => found.into_iter(),
        Err(failed) => {
            let error = error::meta(Asked::Log, &failed);
            return request.topics.iter().flat_map(|topic| &topic.partitions).map(|_| Err(error)).collect();
        }
    };
    let mut asked = Vec::new();
    for (topic, key) in request.topics.iter().zip(&keys) {
        let found = key.as_ref().and_then(|_| found.next().flatten());
        asked.extend(topic.partitions.iter().map(|partition| ask_one(found.as_deref(), partition)));
    }
    asked
}

fn ask_one(found: Option<&Found>, partition: &OffsetForLeaderPartition) -> Ask {
    let found = found.filter(|found| found.has_partition(partition.partition)).ok_or(NamedBy::Name.unknown())?;
    error::check_epoch(partition.current_leader_epoch)?;
    Ok(TopicPartition::new(found.topic.id, partition.partition))
}

fn end(partition: &OffsetForLeaderPartition, head: Result<Head, ResponseError>) -> EpochEndOffset {
    let answer = EpochEndOffset::default().with_partition(partition.partition);
    match head {
        Ok(head) if partition.leader_epoch == 0 => answer.with_leader_epoch(0).with_end_offset(head.high_watermark.0),
        // An epoch that never was.
        Ok(_) => answer.with_leader_epoch(-1).with_end_offset(-1),
        Err(error) => answer.with_error_code(error.code()).with_leader_epoch(-1).with_end_offset(-1),
    }
}

//! OffsetFetch: v1-10. What groups committed. A group nobody knows has no error and no offsets (-1): clients rely on it.
//!
//! v2 all topics (null), a top-level error. v3 throttle time. v5 leader epoch. v6 flexible. v7 stable offsets (all are, without
//! transactions). v8 several groups (KIP-709). v9 members (KIP-848). v10 topic ids instead of names.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{GroupId as WireGroup, OffsetFetchRequest, OffsetFetchResponse, TopicName as WireName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::broker::{Broker, Outcome};
use super::error::{self, Asked, NamedBy};
use super::members;
use super::topics::{self, Key};
use crate::metastore::{CommittedOffset, MetaError, TopicQuery};
use crate::types::{GroupId, TopicId, TopicName, TopicPartition};

const GROUPS_SINCE: i16 = 8;
const IDS_SINCE: i16 = 10;

pub(super) async fn answer(broker: Arc<Broker>, request: OffsetFetchRequest, version: i16) -> Outcome<OffsetFetchResponse> {
    let named_by = if version >= IDS_SINCE { NamedBy::Id } else { NamedBy::Name };
    let mut answers = Vec::new();
    for group in groups(request, version) {
        answers.push(answer_group(&broker, group, named_by).await);
    }
    let code = error::first(answers.iter().map(|answer| answer.error_code));
    let answer = match answers.pop() {
        Some(only) if version < GROUPS_SINCE => in_old_form(only),
        last => OffsetFetchResponse::default().with_groups(answers.into_iter().chain(last).collect()),
    };
    Outcome::new(answer, code)
}

/// The groups asked for; older versions ask for one.
fn groups(request: OffsetFetchRequest, version: i16) -> Vec<OffsetFetchRequestGroup> {
    if version >= GROUPS_SINCE {
        return request.groups;
    }
    let topic = |topic: kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic| {
        OffsetFetchRequestTopics::default().with_name(topic.name).with_partition_indexes(topic.partition_indexes)
    };
    let topics = request.topics.map(|topics| topics.into_iter().map(topic).collect());
    vec![OffsetFetchRequestGroup::default().with_group_id(request.group_id).with_topics(topics)]
}

async fn answer_group(broker: &Broker, group: OffsetFetchRequestGroup, named_by: NamedBy) -> OffsetFetchResponseGroup {
    let id = GroupId(group.group_id.as_str().into());
    let member = group.member_id.as_ref().and_then(members::member);
    if let Err(error) = broker.parts.groups.check_fetch(&id, member.as_ref(), group.member_epoch).await {
        let answer = OffsetFetchResponseGroup::default().with_group_id(WireGroup(group.group_id.0));
        return answer.with_error_code(error::group(Asked::Group, &error).code());
    }
    let topics = match group.topics {
        Some(topics) => some_topics(broker, &id, topics, named_by).await,
        None => all_topics(broker, &id).await,
    };
    let answer = OffsetFetchResponseGroup::default().with_group_id(WireGroup(group.group_id.0));
    match topics {
        Ok(topics) => answer.with_topics(topics),
        Err(failed) => answer.with_error_code(error::meta(Asked::Group, &failed).code()),
    }
}

async fn some_topics(
    broker: &Broker,
    group: &GroupId,
    wanted: Vec<OffsetFetchRequestTopics>,
    named_by: NamedBy,
) -> Result<Vec<OffsetFetchResponseTopics>, MetaError> {
    let key = |topic: &OffsetFetchRequestTopics| match named_by {
        NamedBy::Id => Some(Key::Id(TopicId(*topic.topic_id.as_bytes()))),
        NamedBy::Name => TopicName::parse(&topic.name).ok().map(Key::Name),
    };
    let keys: Vec<Option<Key>> = wanted.iter().map(key).collect();
    let legal: Vec<Key> = keys.iter().flatten().cloned().collect();
    let mut found = broker.topics.find(&legal).await?.into_iter();
    let ids: Vec<Option<TopicId>> = keys.iter().map(|key| Some(key.as_ref().and_then(|_| found.next().flatten())?.topic.id)).collect();
    let logs = |(topic, id): (&OffsetFetchRequestTopics, &Option<TopicId>)| {
        let id = *id;
        topic.partition_indexes.clone().into_iter().filter_map(move |index| Some(TopicPartition::new(id?, index)))
    };
    let logs: Vec<TopicPartition> = wanted.iter().zip(&ids).flat_map(logs).collect();
    let committed: HashMap<TopicPartition, CommittedOffset> = if logs.is_empty() {
        HashMap::new()
    } else {
        broker.parts.metastore.committed_offsets(group, Some(&logs)).await?.into_iter().collect()
    };
    let topic = |(topic, id): (OffsetFetchRequestTopics, Option<TopicId>)| {
        let partition = |index: &i32| match (id, named_by) {
            (Some(id), _) => partition(*index, committed.get(&TopicPartition::new(id, *index))),
            (None, NamedBy::Name) => partition(*index, None),
            (None, NamedBy::Id) => partition(*index, None).with_error_code(ResponseError::UnknownTopicId.code()),
        };
        let partitions = topic.partition_indexes.iter().map(partition).collect();
        OffsetFetchResponseTopics::default().with_name(topic.name).with_topic_id(topic.topic_id).with_partitions(partitions)
    };
    Ok(wanted.into_iter().zip(ids).map(topic).collect())
}

async fn all_topics(broker: &Broker, group: &GroupId) -> Result<Vec<OffsetFetchResponseTopics>, MetaError> {
    let mut by_topic: BTreeMap<TopicId, Vec<(TopicPartition, CommittedOffset)>> = BTreeMap::new();
    for (log, committed) in broker.parts.metastore.committed_offsets(group, None).await? {
        by_topic.entry(log.topic).or_default().push((log, committed));
    }
    if by_topic.is_empty() {
        return Ok(Vec::new());
    }
    // Topics deleted a moment ago are not found any more, and left out.
    let found = topics::read(&broker.topics, &TopicQuery::Ids(by_topic.keys().copied().collect())).await?;
    let topic = |found: &Arc<topics::Found>| {
        let committed = by_topic.get(&found.topic.id).map(Vec::as_slice).unwrap_or_default();
        let partitions = committed.iter().map(|(log, committed)| partition(log.partition.0, Some(committed))).collect();
        OffsetFetchResponseTopics::default()
            .with_name(WireName(StrBytes::from_string(found.topic.name.to_string())))
            .with_topic_id(Uuid::from_bytes(found.topic.id.0))
            .with_partitions(partitions)
    };
    Ok(found.iter().map(topic).collect())
}

fn partition(index: i32, committed: Option<&CommittedOffset>) -> OffsetFetchResponsePartitions {
    let answer = OffsetFetchResponsePartitions::default().with_partition_index(index);
    let Some(committed) = committed else {
        return answer.with_committed_offset(-1).with_committed_leader_epoch(-1).with_metadata(Some(StrBytes::default()));
    };
    // It was a string when it was committed; Kafka knows no null here.
    let metadata = committed.metadata.clone().and_then(|metadata| StrBytes::from_utf8(metadata).ok()).unwrap_or_default();
    answer.with_committed_offset(committed.offset.0).with_committed_leader_epoch(committed.leader_epoch).with_metadata(Some(metadata))
}

fn in_old_form(group: OffsetFetchResponseGroup) -> OffsetFetchResponse {
    let partition = |partition: OffsetFetchResponsePartitions| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_committed_offset(partition.committed_offset)
            .with_committed_leader_epoch(partition.committed_leader_epoch)
            .with_metadata(partition.metadata)
            .with_error_code(partition.error_code)
    };
    let topic = |topic: OffsetFetchResponseTopics| {
        OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(topic.partitions.into_iter().map(partition).collect())
    };
    OffsetFetchResponse::default().with_error_code(group.error_code).with_topics(group.topics.into_iter().map(topic).collect())
}

//! OffsetCommit: v2-10, of members and of stand-alone consumers. Done in the ordered stage: of two commits sent one behind the other the later one must win.
//!
//! v2-v4 a retention time, which is ignored as Kafka does since 2.1. v3 throttle time. v6 leader epoch. v7 static members. v8 flexible. v9 member epochs
//! (KIP-848). v10 topic ids instead of names.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::broker::{Broker, Outcome};
use super::error::{self, Asked, NamedBy};
use super::members;
use super::topics::{Found, Key};
use crate::group::{Committer, GroupError};
use crate::metastore::CommittedOffset;
use crate::types::{GroupId, Offset, TopicId, TopicName, TopicPartition};

const NOT_FOUND_SINCE: i16 = 9;
const IDS_SINCE: i16 = 10;

pub(super) async fn answer(broker: Arc<Broker>, request: OffsetCommitRequest, version: i16) -> Outcome<OffsetCommitResponse> {
    let checked = check(&broker, &request, version).await;
    let accepted: Vec<(TopicPartition, CommittedOffset)> = checked.iter().flatten().cloned().collect();
    let group = GroupId(request.group_id.as_str().into());
    let stored = match &accepted[..] {
        [] => Ok(()),
        some => broker.parts.groups.commit(&group, &committer(&request), some).await.map_err(|error| refusal(&error, version)),
    };
    let codes: Vec<i16> = checked.into_iter().map(|checked| checked.and(stored).err().map_or(error::NONE, |error| error.code())).collect();
    let code = error::first(codes.iter().copied());
    let mut codes = codes.into_iter();
    let mut topic = |topic: &OffsetCommitRequestTopic| {
        let partition = |(partition, code): (&OffsetCommitRequestPartition, i16)| {
            OffsetCommitResponsePartition::default().with_partition_index(partition.partition_index).with_error_code(code)
        };
        let partitions = topic.partitions.iter().zip(codes.by_ref()).map(partition).collect();
        OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_topic_id(topic.topic_id).with_partitions(partitions)
    };
    Outcome::new(OffsetCommitResponse::default().with_topics(request.topics.iter().map(&mut topic).collect()), code)
}

fn committer(request: &OffsetCommitRequest) -> Committer {
    Committer {
        member: members::member(&request.member_id),
        instance: members::instance(request.group_instance_id.as_ref()),
        generation: request.generation_id_or_member_epoch,
    }
}

/// Clients of the older versions know no code for a group that is not there.
fn refusal(error: &GroupError, version: i16) -> ResponseError {
    match error {
        GroupError::NotFound if version < NOT_FOUND_SINCE => ResponseError::IllegalGeneration,
        other => error::group(Asked::Group, other),
    }
}

type Checked = Result<(TopicPartition, CommittedOffset), ResponseError>;

/// For each partition in order: what is to be stored, or why nothing is.
async fn check(broker: &Broker, request: &OffsetCommitRequest, version: i16) -> Vec<Checked> {
    let refuse_all = |error| request.topics.iter().flat_map(|topic| &topic.partitions).map(|_| Err(error)).collect();
    let named_by = if version >= IDS_SINCE { NamedBy::Id } else { NamedBy::Name };
    let keys: Vec<Option<Key>> = request.topics.iter().map(|topic| key(topic, named_by)).collect();
    let legal: Vec<Key> = keys.iter().flatten().cloned().collect();
    let mut found = match broker.topics.find(&legal).await {
        Ok(found) => found.into_iter(),
        Err(failed) => return refuse_all(error::meta(Asked::Group, &failed)),
    };
    let metadata_max = broker.parts.groups.settings().offset_metadata_max_bytes;
    let mut checked = Vec::new();
    for (topic, key) in request.topics.iter().zip(&keys) {
        let found = key.as_ref().and_then(|_| found.next().flatten());
        checked.extend(topic.partitions.iter().map(|partition| check_one(found.as_deref(), partition, named_by, metadata_max)));
    }
    checked
}

fn key(topic: &OffsetCommitRequestTopic, named_by: NamedBy) -> Option<Key> {
    match named_by {
        NamedBy::Id => Some(Key::Id(TopicId(*topic.topic_id.as_bytes()))),
        NamedBy::Name => TopicName::parse(&topic.name).ok().map(Key::Name),
    }
}

fn check_one(found: Option<&Found>, partition: &OffsetCommitRequestPartition, named_by: NamedBy, metadata_max: usize) -> Checked {
    let found = found.ok_or(named_by.unknown())?;
    if !found.has_partition(partition.partition_index) {
        return Err(ResponseError::UnknownTopicOrPartition);
    }
    let metadata = partition.committed_metadata.as_ref();
    // Kafka measures the characters of its strings (UTF-16).
    if metadata.is_some_and(|metadata| metadata.encode_utf16().count() > metadata_max) {
        return Err(ResponseError::OffsetMetadataTooLarge);
    }
    let committed = CommittedOffset {
        offset: Offset(partition.committed_offset),
        leader_epoch: partition.committed_leader_epoch,
        // A copy: a slice would keep the whole request in memory for as long as the offset.
        metadata: metadata.map(|metadata| bytes::Bytes::copy_from_slice(metadata.as_bytes())),
    };
    Ok((TopicPartition::new(found.topic.id, partition.partition_index), committed))
}

//! DescribeTopicPartitions: v0 (KIP-966). Topics in order of name with their partitions, a page at a time: where one ends, a cursor says where the next begins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName as WireName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::broker::{Broker, Outcome};
use super::error::{self, Asked, NamedBy};
use super::metadata::TOPIC_OPERATIONS;
use super::placement::Leaders;
use super::topics::{self, Found};
use crate::metastore::{MetaError, TopicQuery};
use crate::protocol::RequestHeader;
use crate::types::{TopicName, TopicPartition};

/// Partitions of one answer, whatever the client asks for: Kafka's `max.request.partition.size.limit`.
const MOST: usize = 2_000;

/// What is known of a name.
type LookedUp = (String, Result<Arc<Found>, ResponseError>);

pub(super) async fn answer(
    broker: Arc<Broker>,
    request: DescribeTopicPartitionsRequest,
    header: RequestHeader,
) -> Outcome<DescribeTopicPartitionsResponse> {
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, MOST);
    let (first, from) = request.cursor.as_ref().map_or(("", 0), |cursor| (&*cursor.topic_name.0, cursor.partition_index.max(0)));
    let topics = match look_up(&broker, &request, first).await {
        Ok(topics) => topics,
        Err(failed) => {
            let error = error::meta(Asked::Metadata, &failed);
            named(&request).into_iter().map(|name| (name, Err(error))).collect()
        }
    };
    let nodes = broker.nodes.live().await;
    let leaders = Leaders::for_client(&nodes, broker.rack_of(&header).as_deref());
    let (topics, cursor) = page(topics, first, from, limit, &leaders);
    let code = error::first(topics.iter().map(|topic| topic.error_code));
    Outcome::new(DescribeTopicPartitionsResponse::default().with_topics(topics).with_next_cursor(cursor), code)
}

/// The names asked for, in order, each once.
fn named(request: &DescribeTopicPartitionsRequest) -> BTreeSet<String> {
    request.topics.iter().map(|topic| topic.name.to_string()).collect()
}

/// The topics from `first` on, in order of name; without names in the request, all there are.
async fn look_up(broker: &Broker, request: &DescribeTopicPartitionsRequest, first: &str) -> Result<Vec<LookedUp>, MetaError> {
    if request.topics.is_empty() {
        let all = topics::read(&broker.topics, &TopicQuery::All).await?;
        let later = all.into_iter().filter(|found| found.topic.name.as_str() >= first);
        return Ok(later.map(|found| (found.topic.name.to_string(), Ok(found))).collect());
    }
    let names = named(request).into_iter().filter(|name| name.as_str() >= first);
    let names: Vec<(String, Option<TopicName>)> = names.map(|name| (name.clone(), TopicName::parse(&name).ok())).collect();
    let legal = names.iter().filter_map(|(_, legal)| legal.clone()).collect();
    let found = topics::read(&broker.topics, &TopicQuery::Names(legal)).await?;
    let found: BTreeMap<&str, &Arc<Found>> = found.iter().map(|found| (found.topic.name.as_str(), found)).collect();
    let look_up = |(name, legal): (String, Option<TopicName>)| {
        let looked_up = match (found.get(name.as_str()), legal) {
            (Some(found), _) => Ok(Arc::clone(found)),
            (None, Some(_)) => Err(NamedBy::Name.unknown()),
            (None, None) => Err(ResponseError::InvalidTopicException),
        };
        (name, looked_up)
    };
    Ok(names.into_iter().map(look_up).collect())
}

/// As many partitions as `limit` allows, and where the next page begins.
fn page(
    topics: Vec<LookedUp>,
    first: &str,
    from: i32,
    limit: usize,
    leaders: &Leaders<'_>,
) -> (Vec<DescribeTopicPartitionsResponseTopic>, Option<Cursor>) {
    let (mut described, mut left) = (Vec::new(), limit);
    for (name, looked_up) in topics {
        let from = if name == first { from } else { 0 };
        if left == 0 {
            return (described, Some(cursor(name, from)));
        }
        let found = match looked_up {
            Ok(found) => found,
            Err(error) => {
                described.push(refused(name, error));
                continue;
            }
        };
        let end = found.topic.partitions.min(from.saturating_add(i32::try_from(left).unwrap_or(i32::MAX)));
        left -= (from..end).len();
        described.push(describe(&found, from..end, leaders));
        if end < found.topic.partitions {
            return (described, Some(cursor(name, end)));
        }
    }
    (described, None)
}

fn cursor(name: String, partition: i32) -> Cursor {
    Cursor::default().with_topic_name(WireName(StrBytes::from_string(name))).with_partition_index(partition)
}

fn describe(found: &Found, partitions: std::ops::Range<i32>, leaders: &Leaders<'_>) -> DescribeTopicPartitionsResponseTopic {
    let topic = &found.topic;
    let partition = |index: i32| {
        let log = TopicPartition::new(topic.id, index);
        let replicas: Vec<BrokerId> = leaders.replicas(log).iter().map(|node| BrokerId(node.0)).collect();
        DescribeTopicPartitionsResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(leaders.of(log).0))
            .with_leader_epoch(0)
            .with_replica_nodes(replicas.clone())
            .with_isr_nodes(replicas)
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()))
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(WireName(StrBytes::from_string(topic.name.to_string()))))
        .with_topic_id(Uuid::from_bytes(topic.id.0))
        .with_partitions(partitions.map(partition).collect())
        .with_topic_authorized_operations(TOPIC_OPERATIONS)
}

fn refused(name: String, error: ResponseError) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default().with_error_code(error.code()).with_name(Some(WireName(StrBytes::from_string(name))))
}

//! Metadata: v0-13. Nodes, the controller, and topics with their partitions and leaders; creates topics that are asked for by name.
//!
//! v1 rack, controller, no topics instead of all for an empty list. v2 cluster id. v4 the client may forbid creation. v7 leader epoch. v8 authorized
//! operations (of the cluster only up to v10). v9 flexible. v10 topic ids in the answer, v12 in the request (KIP-516). v13 a top-level error.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures_util::FutureExt as _;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName as WireName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::broker::Broker;
use super::error::{self, Asked};
use super::placement::{self, Leaders, Node};
use super::serve::{Begun, OnDisconnect, Refusal, Reply};
use super::stopwatch::Stopwatch;
use super::topics::{self, Found};
use crate::metastore::{Creation, MetaError, TopicQuery};
use crate::protocol::{Request, RequestHeader, codec};
use crate::types::{TopicId, TopicName, TopicPartition};

/// Read, write, create, delete, alter, describe, describe and alter configurations: all there is, without access control (KIP-430).
pub(super) const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// Create, alter, describe, cluster action, describe and alter configurations, idempotent write.
pub(super) const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

pub(super) fn begin(broker: &Arc<Broker>, request: &Request) -> Result<Begun, Refusal> {
    let asked: MetadataRequest = codec::decode(request)?;
    let clock = Stopwatch::start(&broker.parts.requests, &request.header);
    let broker = Arc::clone(broker);
    let answer = async move {
        let (answer, code) = answer(&broker, &asked, &clock.header).await?;
        let rope = codec::encode(&clock.header, &answer)?;
        clock.answered(code);
        Ok(rope)
    };
    Ok(Begun { answer: answer.boxed(), on_disconnect: OnDisconnect::Finish, reply: Reply::InOrder })
}

async fn answer(broker: &Broker, request: &MetadataRequest, header: &RequestHeader) -> Result<(MetadataResponse, i16), Refusal> {
    let version = header.version;
    let nodes = broker.nodes.live().await;
    let leaders = Leaders::for_client(&nodes, broker.rack_of(header).as_deref());
    let (topics, code) = match wanted(request, version) {
        None => match topics::read(&broker.topics, &TopicQuery::All).await {
            Ok(all) => (all.iter().map(|found| described(found, &leaders)).collect(), error::NONE),
            Err(failed) => (Vec::new(), all_failed(&failed, version)?),
        },
        Some(topics) => (named(broker, request, topics, &leaders).await, error::NONE),
    };
    let mut answer = MetadataResponse::default()
        .with_brokers(nodes.iter().map(wire_node).collect())
        .with_cluster_id(Some(StrBytes::from_string(broker.config.cluster_id.clone())))
        .with_controller_id(BrokerId(placement::controller(&nodes).0))
        .with_topics(topics)
        .with_error_code(code);
    if (8..=10).contains(&version) && request.include_cluster_authorized_operations {
        answer.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    if version >= 8 && request.include_topic_authorized_operations {
        answer.topics.iter_mut().filter(|topic| topic.error_code == 0).for_each(|t| t.topic_authorized_operations = TOPIC_OPERATIONS);
    }
    let first = error::first([code].into_iter().chain(answer.topics.iter().map(|topic| topic.error_code)));
    Ok((answer, first))
}

/// The topics asked for; `None` for all.
fn wanted(request: &MetadataRequest, version: i16) -> Option<&[MetadataRequestTopic]> {
    request.topics.as_deref().filter(|topics| version > 0 || !topics.is_empty())
}

/// Without the list of all topics there is no answer that could be told from "there are none", which consumers of a pattern would believe.
fn all_failed(failed: &MetaError, version: i16) -> Result<i16, Refusal> {
    let code = error::meta(Asked::Metadata, failed).code();
    if version >= 13 { Ok(code) } else { Err(Refusal::Unanswerable(format!("the topics cannot be listed: {failed}"))) }
}

/// One answer for each topic asked for, in their order; a topic asked for twice is answered once.
async fn named(
    broker: &Broker,
    request: &MetadataRequest,
    topics: &[MetadataRequestTopic],
    leaders: &Leaders<'_>,
) -> Vec<MetadataResponseTopic> {
    let mut seen = HashSet::new();
    let topics: Vec<&MetadataRequestTopic> = topics.iter().filter(|topic| seen.insert((&topic.name, topic.topic_id))).collect();
    let names: Vec<TopicName> = topics.iter().filter_map(|topic| TopicName::parse(topic.name.as_ref()?).ok()).collect();
    let ids: Vec<TopicId> = topics.iter().filter(|t| t.name.is_none()).map(|topic| TopicId(*topic.topic_id.as_bytes())).collect();
    let found = match find(broker, names, ids).await {
        Ok(found) => found,
        Err(failed) => {
            let failed = error::meta(Asked::Metadata, &failed);
            return topics.iter().map(|topic| refused(topic, failed)).collect();
        }
    };
    let may_create = broker.config.auto_create_topics && request.allow_auto_topic_creation;
    let mut answers = Vec::with_capacity(topics.len());
    for topic in topics {
        answers.push(match found.get(topic) {
            Some(found) => described(&found, leaders),
            None => absent(broker, topic, may_create, leaders).await,
        });
    }
    answers
}

struct FoundTopics {
    by_name: HashMap<TopicName, Arc<Found>>,
    by_id: HashMap<TopicId, Arc<Found>>,
}

impl FoundTopics {
    fn get(&self, topic: &MetadataRequestTopic) -> Option<Arc<Found>> {
        match &topic.name {
            Some(name) => self.by_name.get(&TopicName::parse(name).ok()?).cloned(),
            None => self.by_id.get(&TopicId(*topic.topic_id.as_bytes())).cloned(),
        }
    }
}

async fn find(broker: &Broker, names: Vec<TopicName>, ids: Vec<TopicId>) -> Result<FoundTopics, MetaError> {
    let mut all = Vec::new();
    if !names.is_empty() {
        all.extend(topics::read(&broker.topics, &TopicQuery::Names(names)).await?);
    }
    if !ids.is_empty() {
        all.extend(topics::read(&broker.topics, &TopicQuery::Ids(ids)).await?);
    }
    let by_name = all.iter().map(|found| (found.topic.name.clone(), Arc::clone(found))).collect();
    let by_id = all.into_iter().map(|found| (found.topic.id, found)).collect();
    Ok(FoundTopics { by_name, by_id })
}

async fn absent(broker: &Broker, topic: &MetadataRequestTopic, may_create: bool, leaders: &Leaders<'_>) -> MetadataResponseTopic {
    let Some(name) = &topic.name else { return refused(topic, ResponseError::UnknownTopicId) };
    let Ok(name) = TopicName::parse(name) else { return refused(topic, ResponseError::InvalidTopicException) };
    if !may_create {
        return refused(topic, ResponseError::UnknownTopicOrPartition);
    }
    let (id, partitions) = (broker.parts.ids.topic(), broker.config.default_partitions);
    match broker.parts.metastore.create_topic(id, &name, partitions, &BTreeMap::new()).await {
        Ok(Creation::Created(created) | Creation::Exists(created)) => broker
            .topics
            .remember(&[created])
            .first()
            .map_or_else(|| refused(topic, ResponseError::LeaderNotAvailable), |f| described(f, leaders)),
        Err(failed) => refused(topic, error::meta(Asked::Metadata, &failed)),
    }
}

fn refused(topic: &MetadataRequestTopic, error: ResponseError) -> MetadataResponseTopic {
    // Before version 12 a name cannot be null.
    MetadataResponseTopic::default().with_error_code(error.code()).with_name(topic.name.clone()).with_topic_id(topic.topic_id)
}

fn described(found: &Found, leaders: &Leaders<'_>) -> MetadataResponseTopic {
    let topic = &found.topic;
    let partition = |index: i32| {
        let log = TopicPartition::new(topic.id, index);
        let replicas: Vec<BrokerId> = leaders.replicas(log).iter().map(|node| BrokerId(node.0)).collect();
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(leaders.of(log).0))
            .with_leader_epoch(0)
            .with_replica_nodes(replicas.clone())
            .with_isr_nodes(replicas)
    };
    MetadataResponseTopic::default()
        .with_name(Some(WireName(StrBytes::from_string(topic.name.to_string()))))
        .with_topic_id(Uuid::from_bytes(topic.id.0))
        .with_partitions((0..topic.partitions).map(partition).collect())
}

fn wire_node(node: &Node) -> MetadataResponseBroker {
    MetadataResponseBroker::default()
        .with_node_id(BrokerId(node.id.0))
        .with_host(StrBytes::from_string(node.host.clone()))
        .with_port(i32::from(node.port))
        .with_rack(node.rack.clone().map(StrBytes::from_string))
}

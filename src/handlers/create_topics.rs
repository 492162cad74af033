//! CreateTopics: v2-7. Done in the ordered stage, so that the next request on the connection finds the topic.
//!
//! v4 partitions and replication factor may be -1, the defaults (KIP-464). v5 flexible, the answer tells partitions and configurations (KIP-525). v7 topic ids.
//!
//! Replication: any factor from 1 up is accepted, because the object store keeps records safe in its own way; it is reported as 1.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, TopicName as WireName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::broker::{Broker, Outcome};
use super::error::{self, Asked};
use super::topic_configs;
use super::topics::Key;
use crate::metastore::{Creation, Topic};
use crate::types::{TopicId, TopicName};

/// The replication factor that every topic is reported to have.
const REPLICATION: i16 = 1;
const DETAILS_SINCE: i16 = 5;

/// Why a topic is not created: a code and words for the client.
type Refused = (ResponseError, String);

/// A topic as it is to be created.
struct Wish {
    name: TopicName,
    partitions: i32,
    configs: BTreeMap<String, String>,
}

pub(super) async fn answer(broker: Arc<Broker>, request: CreateTopicsRequest, version: i16) -> Outcome<CreateTopicsResponse> {
    let mut times: HashMap<&WireName, usize> = HashMap::new();
    request.topics.iter().for_each(|topic| *times.entry(&topic.name).or_default() += 1);
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let outcome = match times.remove(&topic.name) {
            Some(1) => create(&broker, topic, request.validate_only).await,
            Some(_) => Err((ResponseError::InvalidRequest, "Duplicate topic name.".to_owned())),
            // Its name was answered already.
            None => continue,
        };
        results.push(result(topic.name.clone(), outcome, version, &broker));
    }
    let code = error::first(results.iter().map(|result| result.error_code));
    Outcome::new(CreateTopicsResponse::default().with_topics(results), code)
}

async fn create(broker: &Broker, topic: &CreatableTopic, validate_only: bool) -> Result<Topic, Refused> {
    let wish = check(broker, topic)?;
    let exists = || (ResponseError::TopicAlreadyExists, format!("Topic '{}' already exists.", wish.name));
    let failed = |failed| (error::meta(Asked::Admin, &failed), failed.to_string());
    if validate_only {
        let known = broker.topics.find(&[Key::Name(wish.name.clone())]).await.map_err(failed)?;
        let planned = || Topic {
            id: TopicId::ZERO,
            name: wish.name.clone(),
            partitions: wish.partitions,
            configs: wish.configs.clone(),
            created_at: broker.parts.clock.now(),
        };
        return if known.iter().all(Option::is_none) { Ok(planned()) } else { Err(exists()) };
    }
    let id = broker.parts.ids.topic();
    match broker.parts.metastore.create_topic(id, &wish.name, wish.partitions, &wish.configs).await.map_err(failed)? {
        Creation::Created(created) => {
            broker.topics.remember(std::slice::from_ref(&created));
            Ok(created)
        }
        Creation::Exists(_) => Err(exists()),
    }
}

fn check(broker: &Broker, topic: &CreatableTopic) -> Result<Wish, Refused> {
    let name = TopicName::parse(&topic.name).map_err(|reason| (ResponseError::InvalidTopicException, reason))?;
    let partitions = if topic.assignments.is_empty() { counted(broker, topic)? } else { assigned(topic)? };
    if partitions > broker.config.max_partitions {
        let message = format!("{partitions} partitions are more than the {} that a topic may have", broker.config.max_partitions);
        return Err((ResponseError::InvalidPartitions, message));
    }
    Ok(Wish { name, partitions, configs: configs(topic)? })
}

fn counted(broker: &Broker, topic: &CreatableTopic) -> Result<i32, Refused> {
    if topic.replication_factor != -1 && topic.replication_factor < 1 {
        let message = "Replication factor must be larger than 0, or -1 to use the default value.";
        return Err((ResponseError::InvalidReplicationFactor, message.to_owned()));
    }
    match topic.num_partitions {
        -1 => Ok(broker.config.default_partitions),
        partitions @ 1.. => Ok(partitions),
        ..=0 => Err((
            ResponseError::InvalidPartitions,
            "Number of partitions must be larger than 0, or -1 to use the default value.".to_owned(),
        )),
    }
}

/// The client places replicas itself: only how many partitions there are counts here.
fn assigned(topic: &CreatableTopic) -> Result<i32, Refused> {
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        let message = "With a manual assignment, partitions and replication factor must be -1.";
        return Err((ResponseError::InvalidRequest, message.to_owned()));
    }
    let wrong = |reason: &str| Err((ResponseError::InvalidReplicaAssignment, reason.to_owned()));
    let mut indexes: Vec<i32> = topic.assignments.iter().map(|assignment| assignment.partition_index).collect();
    indexes.sort_unstable();
    if indexes.iter().enumerate().any(|(expected, index)| usize::try_from(*index) != Ok(expected)) {
        return wrong("the partitions of a manual assignment must be 0, 1, 2 and so on, each once");
    }
    for assignment in &topic.assignments {
        let mut brokers = assignment.broker_ids.clone();
        brokers.sort_unstable();
        brokers.dedup();
        if brokers.is_empty() || brokers.len() != assignment.broker_ids.len() {
            return wrong("each partition of a manual assignment needs at least one broker, and none twice");
        }
    }
    Ok(indexes.len() as i32)
}

fn configs(topic: &CreatableTopic) -> Result<BTreeMap<String, String>, Refused> {
    let invalid = |reason: String| (ResponseError::InvalidConfig, reason);
    let mut configs = BTreeMap::new();
    for config in &topic.configs {
        let name = config.name.to_string();
        let value = config.value.as_ref().ok_or_else(|| invalid(format!("Null value not supported for topic configs: {name}")))?;
        topic_configs::check(&name, value).map_err(invalid)?;
        configs.insert(name, value.trim().to_owned());
    }
    Ok(configs)
}

fn result(name: WireName, outcome: Result<Topic, Refused>, version: i16, broker: &Broker) -> CreatableTopicResult {
    let result = CreatableTopicResult::default().with_name(name);
    match outcome {
        Ok(topic) if version >= DETAILS_SINCE => result
            .with_topic_id(Uuid::from_bytes(topic.id.0))
            .with_num_partitions(topic.partitions)
            .with_replication_factor(REPLICATION)
            .with_configs(Some(described(&topic, broker))),
        Ok(_) => result,
        Err((error, message)) => result
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_string(message)))
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_configs(None),
    }
}

fn described(topic: &Topic, broker: &Broker) -> Vec<CreatableTopicConfigs> {
    let config = |config: super::describe_configs::Described| {
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_string(config.name))
            .with_value(config.value.map(StrBytes::from_string))
            .with_config_source(config.source.code())
    };
    super::describe_configs::of_topic(topic, &broker.config).into_iter().map(config).collect()
}

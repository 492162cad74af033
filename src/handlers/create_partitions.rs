//! CreatePartitions: v0-3. Gives topics more partitions. Done in the ordered stage, so that the next request on the connection finds them.
//!
//! v1 throttle time. v2 flexible. v3 a code for quotas (there are none).

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse, TopicName as WireName};
use kafka_protocol::protocol::StrBytes;

use super::alter::Mode;
use super::broker::{Broker, Outcome};
use super::error::{self, Refused};
use super::resources;
use crate::metastore::{Growth, Topic};
use crate::types::TopicName;

pub(super) async fn answer(broker: Arc<Broker>, request: CreatePartitionsRequest, _version: i16) -> Outcome<CreatePartitionsResponse> {
    let mut times: HashMap<&WireName, usize> = HashMap::new();
    request.topics.iter().for_each(|topic| *times.entry(&topic.name).or_default() += 1);
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let grown = match times.remove(&topic.name) {
            Some(1) => grow(&broker, topic, Mode::validating(request.validate_only)).await,
            Some(_) => Err((ResponseError::InvalidRequest, "Duplicate topic name.".to_owned())),
            // Its name was answered already.
            None => continue,
        };
        results.push(result(topic.name.clone(), grown));
    }
    let code = error::first(results.iter().map(|result| result.error_code));
    Outcome::new(CreatePartitionsResponse::default().with_results(results), code)
}

async fn grow(broker: &Broker, wanted: &CreatePartitionsTopic, mode: Mode) -> Result<(), Refused> {
    let name = TopicName::parse(&wanted.name).map_err(|reason| (ResponseError::InvalidTopicException, reason))?;
    let found = resources::topic(broker, &name).await?;
    check(broker, wanted, &found.topic)?;
    if mode == Mode::Judge {
        return Ok(());
    }
    let grown = broker.parts.metastore.grow_topic(found.topic.id, wanted.count).await;
    match grown.map_err(|failed| error::refused(&failed))? {
        Growth::Grown(topic) => {
            broker.topics.remember(&[topic]);
            Ok(())
        }
        Growth::NotLarger(topic) => Err(not_larger(wanted.count, &topic)),
        Growth::Gone => {
            broker.topics.forget(&found.topic);
            Err(resources::unknown_topic(&name))
        }
    }
}

fn check(broker: &Broker, wanted: &CreatePartitionsTopic, topic: &Topic) -> Result<(), Refused> {
    if wanted.count <= topic.partitions {
        return Err(not_larger(wanted.count, topic));
    }
    if wanted.count > broker.config.max_partitions {
        let most = broker.config.max_partitions;
        return Err((
            ResponseError::InvalidPartitions,
            format!("{} partitions are more than the {most} that a topic may have", wanted.count),
        ));
    }
    let wrong = |reason: String| Err((ResponseError::InvalidReplicaAssignment, reason));
    let Some(assignments) = &wanted.assignments else { return Ok(()) };
    let new = i64::from(wanted.count) - i64::from(topic.partitions);
    if i64::try_from(assignments.len()) != Ok(new) {
        return wrong(format!("{} assignments were given for {new} new partitions", assignments.len()));
    }
    for assignment in assignments {
        let mut brokers = assignment.broker_ids.clone();
        brokers.sort_unstable();
        brokers.dedup();
        if brokers.is_empty() || brokers.len() != assignment.broker_ids.len() {
            return wrong("each new partition needs at least one broker, and none twice".to_owned());
        }
    }
    Ok(())
}

fn not_larger(count: i32, topic: &Topic) -> Refused {
    let has = topic.partitions;
    let message = if count == has {
        format!("Topic already has {has} partition(s).")
    } else {
        format!("The topic {} currently has {has} partition(s); {count} would not be an increase.", topic.name)
    };
    (ResponseError::InvalidPartitions, message)
}

fn result(name: WireName, grown: Result<(), Refused>) -> CreatePartitionsTopicResult {
    let result = CreatePartitionsTopicResult::default().with_name(name);
    match grown {
        Ok(()) => result,
        Err((error, message)) => result.with_error_code(error.code()).with_error_message(Some(StrBytes::from_string(message))),
    }
}

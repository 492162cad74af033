//! OffsetDelete: v0. Forgets offsets of topics that the group is not subscribed to (KIP-496).

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_delete_request::OffsetDeleteRequestTopic;
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::broker::{Broker, Outcome};
use super::error::{self, Asked, NamedBy};
use super::topics::{Found, Key};
use crate::types::{GroupId, TopicName, TopicPartition};

pub(super) async fn answer(broker: Arc<Broker>, request: OffsetDeleteRequest, _version: i16) -> Outcome<OffsetDeleteResponse> {
    let (answer, code) = match delete(&broker, &request).await {
        Ok(topics) => {
            let code = error::first(topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code));
            (OffsetDeleteResponse::default().with_topics(topics), code)
        }
        Err(error) => (OffsetDeleteResponse::default().with_error_code(error.code()), error.code()),
    };
    Outcome::new(answer, code)
}

async fn delete(broker: &Broker, request: &OffsetDeleteRequest) -> Result<Vec<OffsetDeleteResponseTopic>, ResponseError> {
    let keys: Vec<Option<Key>> = request.topics.iter().map(|topic| TopicName::parse(&topic.name).ok().map(Key::Name)).collect();
    let legal: Vec<Key> = keys.iter().flatten().cloned().collect();
    let mut found = broker.topics.find(&legal).await.map_err(|failed| error::meta(Asked::Group, &failed))?.into_iter();
    let found: Vec<Option<Arc<Found>>> = keys.iter().map(|key| key.as_ref().and_then(|_| found.next().flatten())).collect();
    let logs = |(topic, found): (&OffsetDeleteRequestTopic, &Option<Arc<Found>>)| {
        let partitions = topic.partitions.iter().filter_map(|p| Some((found.as_ref()?, p.partition_index)));
        partitions
            .filter(|(found, index)| found.has_partition(*index))
            .map(|(found, index)| TopicPartition::new(found.topic.id, index))
            .collect()
    };
    let topics: Vec<(&str, Vec<TopicPartition>)> =
        request.topics.iter().zip(&found).map(|both| (both.0.name.as_str(), logs(both))).collect();
    let group = GroupId(request.group_id.as_str().into());
    let deleted = broker.parts.groups.delete_offsets(&group, &topics).await.map_err(|error| error::group(Asked::Group, &error))?;
    let topic = |((topic, found), deleted): ((&OffsetDeleteRequestTopic, &Option<Arc<Found>>), Result<(), _>)| {
        let deleted = deleted.map_err(|error| error::group(Asked::Group, &error));
        let partition = |index: i32| match found {
            Some(found) if found.has_partition(index) => deleted,
            Some(_) | None => Err(NamedBy::Name.unknown()),
        };
        let partitions = topic.partitions.iter().map(|p| {
            let code = partition(p.partition_index).err().map_or(error::NONE, |error| error.code());
            OffsetDeleteResponsePartition::default().with_partition_index(p.partition_index).with_error_code(code)
        });
        OffsetDeleteResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    };
    Ok(request.topics.iter().zip(&found).zip(deleted).map(topic).collect())
}

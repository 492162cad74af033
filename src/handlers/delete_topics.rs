//! DeleteTopics: v1-6. Forgets topics at once; their objects are left to a later sweep. Done in the ordered stage.
//!
//! v4 flexible. v5 error messages. v6 topics by name or id (KIP-516).

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName as WireName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::broker::{Broker, Outcome};
use super::error::{self, Asked, NamedBy};
use super::topics;
use crate::metastore::{Topic, TopicQuery};
use crate::types::{TopicId, TopicName};

const IDS_SINCE: i16 = 6;

pub(super) async fn answer(broker: Arc<Broker>, request: DeleteTopicsRequest, version: i16) -> Outcome<DeleteTopicsResponse> {
    let by_name = |name: &WireName| DeleteTopicState::default().with_name(Some(name.clone()));
    let wanted = if version >= IDS_SINCE { request.topics } else { request.topic_names.iter().map(by_name).collect() };
    let mut seen = HashSet::new();
    let mut responses = Vec::with_capacity(wanted.len());
    for topic in wanted {
        if seen.insert((topic.name.clone(), topic.topic_id)) {
            let deleted = delete(&broker, &topic).await;
            responses.push(result(topic, deleted));
        }
    }
    let code = error::first(responses.iter().map(|response| response.error_code));
    Outcome::new(DeleteTopicsResponse::default().with_responses(responses), code)
}

async fn delete(broker: &Broker, wanted: &DeleteTopicState) -> Result<Topic, ResponseError> {
    let (query, named_by) = match &wanted.name {
        Some(_) if !wanted.topic_id.is_nil() => return Err(ResponseError::InvalidRequest),
        Some(name) => (TopicQuery::Names(vec![TopicName::parse(name).map_err(|_| NamedBy::Name.unknown())?]), NamedBy::Name),
        None => (TopicQuery::Ids(vec![TopicId(*wanted.topic_id.as_bytes())]), NamedBy::Id),
    };
    let failed = |failed| error::meta(Asked::Admin, &failed);
    let found = topics::read(&broker.topics, &query).await.map_err(failed)?;
    let topic = &found.first().ok_or(named_by.unknown())?.topic;
    let deleted = broker.parts.metastore.delete_topic(topic.id).await.map_err(failed)?;
    broker.topics.forget(topic);
    broker.parts.watermarks.forget(topic.id);
    if deleted { Ok(topic.clone()) } else { Err(named_by.unknown()) }
}

fn result(wanted: DeleteTopicState, deleted: Result<Topic, ResponseError>) -> DeletableTopicResult {
    match deleted {
        Ok(topic) => DeletableTopicResult::default()
            .with_name(Some(WireName(StrBytes::from_string(topic.name.to_string()))))
            .with_topic_id(Uuid::from_bytes(topic.id.0)),
        Err(error) => DeletableTopicResult::default()
            .with_name(wanted.name)
            .with_topic_id(wanted.topic_id)
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_string(error.to_string()))),
    }
}

//! What has configurations, by Kafka's numbers of its kinds.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::broker::Broker;
use super::error::{self, NamedBy, Refused};
use super::topics::{self, Found};
use crate::metastore::TopicQuery;
use crate::types::{GroupId, TopicName};

pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
pub(super) const BROKER_LOGGER: i8 = 8;
pub(super) const CLIENT_METRICS: i8 = 16;
pub(super) const GROUP: i8 = 32;

/// Why log levels are no client's business.
pub(super) const LOGGERS: &str = "log levels are set with YAKS_LOG; clients can neither read nor change them";

/// What a client names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resource {
    Topic(TopicName),
    /// What holds for all brokers that do not say otherwise.
    AllBrokers,
    Broker(String),
    BrokerLogger(String),
    ClientMetrics(String),
    Group(GroupId),
}

impl Resource {
    /// # Errors
    /// There is no such kind, or nothing of this kind can have this name.
    pub(super) fn parse(kind: i8, name: &str) -> Result<Resource, Refused> {
        match kind {
            TOPIC => TopicName::parse(name).map(Resource::Topic).map_err(|reason| (ResponseError::InvalidTopicException, reason)),
            BROKER if name.is_empty() => Ok(Resource::AllBrokers),
            BROKER => Ok(Resource::Broker(name.to_owned())),
            BROKER_LOGGER => Ok(Resource::BrokerLogger(name.to_owned())),
            CLIENT_METRICS => Ok(Resource::ClientMetrics(name.to_owned())),
            GROUP if name.is_empty() => Err((ResponseError::InvalidRequest, "the name of the group is empty".to_owned())),
            GROUP => Ok(Resource::Group(GroupId(name.into()))),
            other => Err((ResponseError::InvalidRequest, format!("resources of type {other} have no configurations"))),
        }
    }
}

/// The topic, as the metastore has it now.
pub(super) async fn topic(broker: &Broker, name: &TopicName) -> Result<Arc<Found>, Refused> {
    let found = topics::read(&broker.topics, &TopicQuery::Names(vec![name.clone()])).await.map_err(|failed| error::refused(&failed))?;
    found.into_iter().next().ok_or_else(|| unknown_topic(name))
}

pub(super) fn unknown_topic(name: &TopicName) -> Refused {
    (NamedBy::Name.unknown(), format!("there is no topic {name}"))
}

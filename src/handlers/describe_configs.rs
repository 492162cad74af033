//! DescribeConfigs: v1-4, for topics and brokers: every configuration with its value, default, source and meaning.
//!
//! v1 sources and synonyms (KIP-226). v3 types and documentation (KIP-569). v4 flexible.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::broker::{Broker, HandlerConfig, Outcome};
use super::error::{self, Asked, NamedBy};
use super::topic_configs::{MAX_MESSAGE_BYTES, TOPIC_CONFIGS, TopicConfig, Values};
use super::{broker_configs, topics};
use crate::metastore::{Topic, TopicQuery};
use crate::types::TopicName;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Where a value comes from, with Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Topic,
    StaticBroker,
    Default,
}

impl Source {
    pub(super) fn code(self) -> i8 {
        match self {
            Source::Topic => 1,
            Source::StaticBroker => 4,
            Source::Default => 5,
        }
    }
}

/// The type of a value, with Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    String,
    Int,
    Long,
    Double,
    List,
}

impl Kind {
    fn code(self) -> i8 {
        match self {
            Kind::Boolean => 1,
            Kind::String => 2,
            Kind::Int => 3,
            Kind::Long => 5,
            Kind::Double => 6,
            Kind::List => 7,
        }
    }

    fn of(values: Values) -> Kind {
        match values {
            Values::Boolean => Kind::Boolean,
            Values::Int(_) => Kind::Int,
            Values::Long(_) => Kind::Long,
            Values::Ratio => Kind::Double,
            Values::OneOf(_) => Kind::String,
            Values::ListOf(_) | Values::List => Kind::List,
        }
    }
}

/// One configuration of a topic or broker as it is.
#[derive(Debug, Clone)]
pub(super) struct Described {
    pub(super) name: String,
    pub(super) value: Option<String>,
    pub(super) source: Source,
    kind: Kind,
    doc: &'static str,
    read_only: bool,
    /// The value it would have if it were not set, where that is told.
    default: Option<String>,
}

impl Described {
    pub(super) fn new(name: &str, value: Option<String>, source: Source, kind: Kind, doc: &'static str) -> Self {
        Described { name: name.to_owned(), value, source, kind, doc, read_only: false, default: None }
    }

    pub(super) fn read_only(self) -> Self {
        Described { read_only: true, ..self }
    }
}

/// Every configuration of a topic.
pub(super) fn of_topic(topic: &Topic, config: &HandlerConfig) -> Vec<Described> {
    TOPIC_CONFIGS.iter().map(|known| of_topic_config(known, topic, config)).collect()
}

fn of_topic_config(known: &TopicConfig, topic: &Topic, config: &HandlerConfig) -> Described {
    let default = match known.name {
        MAX_MESSAGE_BYTES => config.message_max_bytes.to_string(),
        "yaks.produce.offsets" => if config.deferred { "deferred" } else { "verdict" }.to_owned(),
        _ => known.default.to_owned(),
    };
    let (value, source) = match topic.configs.get(known.name) {
        Some(set) => (set.clone(), Source::Topic),
        None => (default.clone(), Source::Default),
    };
    let described = Described::new(known.name, Some(value), source, Kind::of(known.values), known.doc);
    Described { default: Some(default), ..described }
}

/// A configuration of a resource cannot be told.
type Refused = (ResponseError, String);

pub(super) async fn answer(broker: Arc<Broker>, request: DescribeConfigsRequest, _version: i16) -> Outcome<DescribeConfigsResponse> {
    let mut results = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        let described = describe(&broker, resource).await;
        results.push(result(resource, described, &request));
    }
    let code = error::first(results.iter().map(|result| result.error_code));
    Outcome::new(DescribeConfigsResponse::default().with_results(results), code)
}

async fn describe(broker: &Broker, resource: &DescribeConfigsResource) -> Result<Vec<Described>, Refused> {
    match resource.resource_type {
        TOPIC => describe_topic(broker, &resource.resource_name).await,
        BROKER => describe_broker(broker, &resource.resource_name).await,
        other => Err((ResponseError::InvalidRequest, format!("resources of type {other} have no configurations here"))),
    }
}

async fn describe_topic(broker: &Broker, name: &str) -> Result<Vec<Described>, Refused> {
    let name = TopicName::parse(name).map_err(|reason| (ResponseError::InvalidTopicException, reason))?;
    let unknown = || (NamedBy::Name.unknown(), format!("there is no topic {name}"));
    let found = topics::read(&broker.topics, &TopicQuery::Names(vec![name.clone()])).await;
    let found = found.map_err(|failed| (error::meta(Asked::Admin, &failed), failed.to_string()))?;
    found.first().map(|found| of_topic(&found.topic, &broker.config)).ok_or_else(unknown)
}

/// An empty name means what holds for all brokers, of which nothing can be set.
async fn describe_broker(broker: &Broker, name: &str) -> Result<Vec<Described>, Refused> {
    if name.is_empty() {
        return Ok(Vec::new());
    }
    let nodes = broker.nodes.live().await;
    let node = nodes.iter().find(|node| node.id.to_string() == name);
    let unknown = || (ResponseError::InvalidRequest, format!("there is no broker {name}"));
    node.map(|node| broker_configs::of_broker(node, &broker.config, broker.parts.groups.settings())).ok_or_else(unknown)
}

fn result(
    resource: &DescribeConfigsResource,
    described: Result<Vec<Described>, Refused>,
    request: &DescribeConfigsRequest,
) -> DescribeConfigsResult {
    let result =
        DescribeConfigsResult::default().with_resource_type(resource.resource_type).with_resource_name(resource.resource_name.clone());
    match described {
        Ok(described) => {
            // Null and empty both ask for all.
            let keys = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
            let keys: Option<HashSet<&str>> = keys.map(|keys| keys.iter().map(|key| &**key).collect());
            let wanted = described.into_iter().filter(|d| keys.as_ref().is_none_or(|keys| keys.contains(d.name.as_str())));
            result.with_configs(wanted.map(|described| wire(described, request)).collect())
        }
        Err((error, message)) => result.with_error_code(error.code()).with_error_message(Some(StrBytes::from_string(message))),
    }
}

fn wire(described: Described, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let synonyms = if request.include_synonyms { synonyms(&described) } else { Vec::new() };
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_string(described.name))
        .with_value(described.value.map(StrBytes::from_string))
        .with_read_only(described.read_only)
        .with_config_source(described.source.code())
        .with_synonyms(synonyms)
        .with_config_type(described.kind.code())
        .with_documentation(request.include_documentation.then(|| StrBytes::from_static_str(described.doc)))
}

/// All values the configuration could have, the one that counts first.
fn synonyms(described: &Described) -> Vec<DescribeConfigsSynonym> {
    let synonym = |value: &Option<String>, source: Source| {
        DescribeConfigsSynonym::default()
            .with_name(StrBytes::from_string(described.name.clone()))
            .with_value(value.clone().map(StrBytes::from_string))
            .with_source(source.code())
    };
    let mut synonyms = vec![synonym(&described.value, described.source)];
    if described.source != Source::Default && described.default.is_some() {
        synonyms.push(synonym(&described.default, Source::Default));
    }
    synonyms
}

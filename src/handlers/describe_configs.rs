//! DescribeConfigs: v1-4, for topics, brokers and groups: every configuration with its value, source, type, meaning and synonyms.
//!
//! v1 sources and synonyms (KIP-226). v3 types and documentation (KIP-569). v4 flexible. Groups since KIP-848, in every version.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::broker::{Broker, Outcome};
use super::broker_configs;
use super::described::{self, Candidate, Described};
use super::error::{self, Refused};
use super::resources::{self, Resource};
use crate::types::GroupId;

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
    match Resource::parse(resource.resource_type, &resource.resource_name)? {
        Resource::Topic(name) => Ok(described::of_topic(&resources::topic(broker, &name).await?.topic.configs, &broker.config)),
        // Nothing can be set for all brokers at once, and nobody made a subscription to telemetry: none, as Kafka tells it.
        Resource::AllBrokers | Resource::ClientMetrics(_) => Ok(Vec::new()),
        Resource::Broker(name) => describe_broker(broker, &name).await,
        Resource::BrokerLogger(_) => Err((ResponseError::InvalidRequest, resources::LOGGERS.to_owned())),
        Resource::Group(group) => describe_group(broker, group).await,
    }
}

async fn describe_broker(broker: &Broker, name: &str) -> Result<Vec<Described>, Refused> {
    let nodes = broker.nodes.live().await;
    let node = nodes.iter().find(|node| node.id.to_string() == name);
    let unknown = || (ResponseError::InvalidRequest, format!("there is no broker {name}"));
    node.map(|node| broker_configs::of_broker(node, &broker.config, broker.parts.groups.settings())).ok_or_else(unknown)
}

async fn describe_group(broker: &Broker, group: GroupId) -> Result<Vec<Described>, Refused> {
    let found = broker.parts.metastore.group_configs(&[group]).await.map_err(|failed| error::refused(&failed))?;
    Ok(described::of_group(&found.into_iter().next().unwrap_or_default()))
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
    let synonyms = if request.include_synonyms { described.synonyms.into_iter().map(synonym).collect() } else { Vec::new() };
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_string(described.name))
        .with_value(described.value.map(StrBytes::from_string))
        .with_read_only(described.read_only)
        .with_config_source(described.source.code())
        .with_synonyms(synonyms)
        .with_config_type(described.kind.code())
        .with_documentation(request.include_documentation.then(|| StrBytes::from_static_str(described.doc)))
}

fn synonym(candidate: Candidate) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym::default()
        .with_name(StrBytes::from_string(candidate.name))
        .with_value(Some(StrBytes::from_string(candidate.value)))
        .with_source(candidate.source.code())
}

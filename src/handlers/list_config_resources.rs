//! ListConfigResources: v0-1 (KIP-1142). What has configurations: topics, brokers, and groups for which something is set.
//!
//! v0 (ListClientMetricsResources, KIP-1000) asks for telemetry subscriptions only, of which there are none. v1 kinds of resources.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use kafka_protocol::protocol::StrBytes;

use super::broker::{Broker, Outcome};
use super::error::{self, Refused};
use super::resources::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use crate::metastore::TopicQuery;

const KINDS_SINCE: i16 = 1;
const ALL: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];

pub(super) async fn answer(broker: Arc<Broker>, request: ListConfigResourcesRequest, version: i16) -> Outcome<ListConfigResourcesResponse> {
    let mut kinds = match version {
        KINDS_SINCE.. if request.resource_types.is_empty() => ALL.to_vec(),
        KINDS_SINCE.. => request.resource_types,
        _ => vec![CLIENT_METRICS],
    };
    kinds.sort_unstable();
    kinds.dedup();
    match list(&broker, &kinds).await {
        Ok(resources) => Outcome::fine(ListConfigResourcesResponse::default().with_config_resources(resources)),
        Err((error, message)) => {
            tracing::debug!(%error, message, "configured resources cannot be listed");
            Outcome::new(ListConfigResourcesResponse::default().with_error_code(error.code()), error.code())
        }
    }
}

async fn list(broker: &Broker, kinds: &[i8]) -> Result<Vec<ConfigResource>, Refused> {
    let mut resources = Vec::new();
    for kind in kinds {
        let names = names(broker, *kind).await?;
        let resource = |name: String| ConfigResource::default().with_resource_type(*kind).with_resource_name(StrBytes::from_string(name));
        resources.extend(names.into_iter().map(resource));
    }
    Ok(resources)
}

async fn names(broker: &Broker, kind: i8) -> Result<Vec<String>, Refused> {
    let metastore = &broker.parts.metastore;
    match kind {
        TOPIC => {
            let topics = metastore.find_topics(&TopicQuery::All).await.map_err(|failed| error::refused(&failed))?;
            Ok(topics.iter().map(|topic| topic.name.to_string()).collect())
        }
        BROKER => Ok(broker.nodes.live().await.iter().map(|node| node.id.to_string()).collect()),
        // Neither has configurations that clients could see.
        BROKER_LOGGER | CLIENT_METRICS => Ok(Vec::new()),
        GROUP => {
            let groups = metastore.configured_groups().await.map_err(|failed| error::refused(&failed))?;
            Ok(groups.iter().map(|group| group.0.to_string()).collect())
        }
        other => Err((ResponseError::UnsupportedVersion, format!("resources of type {other} have no configurations"))),
    }
}

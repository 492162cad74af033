//! DescribeCluster: v0-2. Nodes, controller, cluster id.
//!
//! v1 type of endpoint (KIP-919): brokers only. v2 fenced brokers (there are none).

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use super::broker::{Broker, Outcome};
use super::metadata::CLUSTER_OPERATIONS;
use super::placement::{self, Node};

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) async fn answer(broker: Arc<Broker>, request: DescribeClusterRequest, _version: i16) -> Outcome<DescribeClusterResponse> {
    match request.endpoint_type {
        BROKERS => {}
        CONTROLLERS => return refused(ResponseError::MismatchedEndpointType),
        _ => return refused(ResponseError::UnsupportedEndpointType),
    }
    let nodes = broker.nodes.live().await;
    let mut answer = DescribeClusterResponse::default()
        .with_cluster_id(StrBytes::from_string(broker.config.cluster_id.clone()))
        .with_controller_id(BrokerId(placement::controller(&nodes).0))
        .with_brokers(nodes.iter().map(wire_node).collect());
    if request.include_cluster_authorized_operations {
        answer.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    Outcome::fine(answer)
}

fn refused(error: ResponseError) -> Outcome<DescribeClusterResponse> {
    let message = Some(StrBytes::from_static_str("only brokers can be described here"));
    Outcome::new(DescribeClusterResponse::default().with_error_code(error.code()).with_error_message(message), error.code())
}

fn wire_node(node: &Node) -> DescribeClusterBroker {
    DescribeClusterBroker::default()
        .with_broker_id(BrokerId(node.id.0))
        .with_host(StrBytes::from_string(node.host.clone()))
        .with_port(i32::from(node.port))
        .with_rack(node.rack.clone().map(StrBytes::from_string))
}

//! FindCoordinator: v0-6. Any agent coordinates any group; to keep the requests of one group on one agent, all agents name the same one of those that live.
//!
//! v1 types of keys (KIP-98) and error messages. v3 flexible. v4 several keys at once (KIP-699). v6 share groups, which are not served.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::broker::{Broker, Outcome};
use super::error;
use super::placement::{self, Node};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const MANY_SINCE: i16 = 4;

pub(super) async fn answer(broker: Arc<Broker>, request: FindCoordinatorRequest, version: i16) -> Outcome<FindCoordinatorResponse> {
    let nodes = broker.nodes.live().await;
    let found = |key: &StrBytes| find(request.key_type, key, &nodes);
    if version >= MANY_SINCE {
        let coordinators: Vec<Coordinator> = request.coordinator_keys.iter().map(|key| many(key, &found(key))).collect();
        let code = error::first(coordinators.iter().map(|coordinator| coordinator.error_code));
        return Outcome::new(FindCoordinatorResponse::default().with_coordinators(coordinators), code);
    }
    let answer = one(&found(&request.key), version);
    let code = answer.error_code;
    Outcome::new(answer, code)
}

type Found<'a> = Result<&'a Node, (ResponseError, &'static str)>;

fn find<'a>(key_type: i8, key: &str, nodes: &'a [Node]) -> Found<'a> {
    match key_type {
        GROUP if key.is_empty() => Err((ResponseError::InvalidGroupId, "a group with members has a name")),
        GROUP => placement::coordinator(key, nodes).ok_or((ResponseError::CoordinatorNotAvailable, "no agent is known to live")),
        // Final for every client; COORDINATOR_NOT_AVAILABLE they would retry for ever.
        TRANSACTION => Err((ResponseError::TransactionalIdAuthorizationFailed, "transactions are not served")),
        _ => Err((ResponseError::InvalidRequest, "coordinators of this type are not served")),
    }
}

fn one(found: &Found<'_>, version: i16) -> FindCoordinatorResponse {
    match found {
        Ok(node) => FindCoordinatorResponse::default()
            .with_node_id(BrokerId(node.id.0))
            .with_host(StrBytes::from_string(node.host.clone()))
            .with_port(i32::from(node.port)),
        Err((error, message)) => FindCoordinatorResponse::default()
            .with_error_code(error.code())
            .with_error_message((version >= 1).then(|| StrBytes::from_static_str(message)))
            .with_node_id(BrokerId(-1))
            .with_port(-1),
    }
}

fn many(key: &StrBytes, found: &Found<'_>) -> Coordinator {
    let coordinator = Coordinator::default().with_key(key.clone());
    match found {
        Ok(node) => coordinator
            .with_node_id(BrokerId(node.id.0))
            .with_host(StrBytes::from_string(node.host.clone()))
            .with_port(i32::from(node.port)),
        Err((error, message)) => coordinator
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_static_str(message)))
            .with_node_id(BrokerId(-1))
            .with_port(-1),
    }
}

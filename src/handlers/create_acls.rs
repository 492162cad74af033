//! CreateAcls: v1-3. There is no access control, which is answered as Apache Kafka without an authorizer does.
//!
//! v2 flexible. v3 user resources.

use std::sync::Arc;

use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::{CreateAclsRequest, CreateAclsResponse};

use super::broker::{Broker, Outcome};
use super::describe_acls::no_authorizer;

pub(super) async fn answer(_broker: Arc<Broker>, request: CreateAclsRequest, _version: i16) -> Outcome<CreateAclsResponse> {
    let (error, message) = no_authorizer();
    let refused = AclCreationResult::default().with_error_code(error.code()).with_error_message(Some(message));
    let results = request.creations.iter().map(|_| refused.clone()).collect();
    Outcome::new(CreateAclsResponse::default().with_results(results), error.code())
}

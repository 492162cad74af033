//! DeleteAcls: v1-3. There is no access control, which is answered as Apache Kafka without an authorizer does.
//!
//! v2 flexible. v3 user resources.

use std::sync::Arc;

use kafka_protocol::messages::delete_acls_response::DeleteAclsFilterResult;
use kafka_protocol::messages::{DeleteAclsRequest, DeleteAclsResponse};

use super::broker::{Broker, Outcome};
use super::describe_acls::no_authorizer;

pub(super) async fn answer(_broker: Arc<Broker>, request: DeleteAclsRequest, _version: i16) -> Outcome<DeleteAclsResponse> {
    let (error, message) = no_authorizer();
    let refused = DeleteAclsFilterResult::default().with_error_code(error.code()).with_error_message(Some(message));
    let results = request.filters.iter().map(|_| refused.clone()).collect();
    Outcome::new(DeleteAclsResponse::default().with_filter_results(results), error.code())
}

//! DescribeAcls: v1-3. There is no access control, which is answered as Apache Kafka without an authorizer does.
//!
//! v2 user-defined resource types. v3 flexible.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{DescribeAclsRequest, DescribeAclsResponse};
use kafka_protocol::protocol::StrBytes;

use super::broker::{Broker, Outcome};

pub(super) async fn answer(_broker: Arc<Broker>, _request: DescribeAclsRequest, _version: i16) -> Outcome<DescribeAclsResponse> {
    let (error, message) = no_authorizer();
    Outcome::new(DescribeAclsResponse::default().with_error_code(error.code()).with_error_message(Some(message)), error.code())
}

/// What Apache Kafka says without an authorizer.
pub(super) fn no_authorizer() -> (ResponseError, StrBytes) {
    (ResponseError::SecurityDisabled, StrBytes::from_static_str("No Authorizer is configured."))
}

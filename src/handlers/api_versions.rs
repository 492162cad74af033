//! ApiVersions: v0-4. What is served, from the one table; features: none.
//!
//! v1 throttle time. v3 flexible, client software name and version (KIP-511), features (KIP-584). v4 as v3 (KIP-1022 lets feature levels begin at 0).
//! A higher version is answered in version 0, with UNSUPPORTED_VERSION and the table.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use super::broker::{Broker, Outcome};
use crate::protocol::versions;

pub(super) async fn answer(_broker: Arc<Broker>, _request: ApiVersionsRequest, _version: i16) -> Outcome<ApiVersionsResponse> {
    Outcome::fine(ApiVersionsResponse::default().with_api_keys(table()))
}

/// The answer to a version nobody knows.
pub(super) fn unknown_version() -> Outcome<ApiVersionsResponse> {
    let code = ResponseError::UnsupportedVersion.code();
    Outcome::new(ApiVersionsResponse::default().with_error_code(code).with_api_keys(table()), code)
}

fn table() -> Vec<ApiVersion> {
    versions::advertised()
        .map(|row| ApiVersion::default().with_api_key(row.key).with_min_version(row.min).with_max_version(row.max))
        .collect()
}

//! ApiVersions: v0-4. What is served, from the one table; the levels of features.
//!
//! v1 throttle time. v3 flexible, client software name and version (KIP-511), features (KIP-584). v4 as v3 (KIP-1022 lets feature levels begin at 0).
//! A higher version is answered in version 0, with UNSUPPORTED_VERSION and the table.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;

use super::broker::{Broker, Outcome};
use super::features::{self, Feature};
use crate::protocol::versions;

const FEATURES_SINCE: i16 = 3;
const ZERO_SINCE: i16 = 4;

pub(super) async fn answer(_broker: Arc<Broker>, _request: ApiVersionsRequest, version: i16) -> Outcome<ApiVersionsResponse> {
    let answer = ApiVersionsResponse::default().with_api_keys(table());
    if version < FEATURES_SINCE {
        return Outcome::fine(answer);
    }
    let supported = |f: Feature| SupportedFeatureKey::default().with_name(name(f)).with_min_version(f.min).with_max_version(f.max);
    let finalized =
        |f: Feature| FinalizedFeatureKey::default().with_name(name(f)).with_min_version_level(f.max).with_max_version_level(f.max);
    // Before version 4 a feature whose levels begin at 0 must not be told.
    let told = || features::features().filter(|feature| version >= ZERO_SINCE || feature.min > 0);
    let answer = answer.with_supported_features(told().map(supported).collect());
    Outcome::fine(
        answer.with_finalized_features_epoch(features::EPOCH).with_finalized_features(features::features().map(finalized).collect()),
    )
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

fn name(feature: Feature) -> StrBytes {
    StrBytes::from_static_str(feature.name)
}

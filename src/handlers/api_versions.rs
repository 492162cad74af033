//! ApiVersions: v0-4. What is served, from the one table; and the features that clients look for.
//!
//! v1 throttle time. v3 flexible, client software name and version (KIP-511), features (KIP-584). v4 as v3 (KIP-1022 lets feature levels begin at 0).
//! A higher version is answered in version 0, with UNSUPPORTED_VERSION and the table.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;

use super::broker::{Broker, Outcome};
use crate::protocol::versions;

/// Features and their level, which is also the highest; the lowest is 0. `group.version` 1: groups of the consumer protocol (KIP-848).
const FEATURES: [(&str, i16); 1] = [("group.version", 1)];
const ZERO_LEVELS_SINCE: i16 = 4;

pub(super) async fn answer(_broker: Arc<Broker>, _request: ApiVersionsRequest, version: i16) -> Outcome<ApiVersionsResponse> {
    let supported = |(name, level): (&'static str, i16)| {
        SupportedFeatureKey::default().with_name(StrBytes::from_static_str(name)).with_max_version(level)
    };
    let finalized = |(name, level): (&'static str, i16)| {
        FinalizedFeatureKey::default()
            .with_name(StrBytes::from_static_str(name))
            .with_max_version_level(level)
            .with_min_version_level(level)
    };
    let answer = ApiVersionsResponse::default().with_api_keys(table());
    Outcome::fine(match version {
        // Readers of version 3 refuse levels that begin at 0, so they are told none.
        ..ZERO_LEVELS_SINCE => answer,
        _since => answer
            .with_supported_features(FEATURES.map(supported).to_vec())
            .with_finalized_features_epoch(0)
            .with_finalized_features(FEATURES.map(finalized).to_vec()),
    })
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

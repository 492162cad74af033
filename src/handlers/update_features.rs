//! UpdateFeatures: v0-2 (KIP-584). Every feature is at its highest level always: it belongs to the binary.
//!
//! v1 type of change, validation only. v2 one error for all instead of one for each.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::update_features_response::UpdatableFeatureResult;
use kafka_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use kafka_protocol::protocol::StrBytes;

use super::broker::{Broker, Outcome};
use super::error::{self, Refused};
use super::features;

const ONE_ERROR_SINCE: i16 = 2;

pub(super) async fn answer(_broker: Arc<Broker>, request: UpdateFeaturesRequest, version: i16) -> Outcome<UpdateFeaturesResponse> {
    let updated: Vec<(&FeatureUpdateKey, Result<(), Refused>)> =
        request.feature_updates.iter().map(|wanted| (wanted, update(wanted))).collect();
    let code = error::first(updated.iter().map(|(_, done)| done.as_ref().err().map_or(error::NONE, |(error, _)| error.code())));
    let answer = UpdateFeaturesResponse::default();
    if version < ONE_ERROR_SINCE {
        return Outcome::new(answer.with_results(updated.into_iter().map(|(wanted, done)| result(wanted, done)).collect()), code);
    }
    let message = updated.into_iter().find_map(|(_, done)| done.err()).map(|(_, message)| StrBytes::from_string(message));
    Outcome::new(answer.with_error_code(code).with_error_message(message), code)
}

fn update(wanted: &FeatureUpdateKey) -> Result<(), Refused> {
    let (name, level) = (&*wanted.feature, wanted.max_version_level);
    let invalid =
        |why: String| Err((ResponseError::InvalidUpdateVersion, format!("Invalid update version {level} for feature {name}. {why}")));
    match features::features().find(|feature| feature.name == name) {
        Some(feature) if feature.max == level => Ok(()),
        Some(feature) => invalid(format!("It is always at level {}.", feature.max)),
        None => invalid("This broker does not support this feature.".to_owned()),
    }
}

fn result(wanted: &FeatureUpdateKey, done: Result<(), Refused>) -> UpdatableFeatureResult {
    let result = UpdatableFeatureResult::default().with_feature(wanted.feature.clone());
    match done {
        Ok(()) => result,
        Err((error, message)) => result.with_error_code(error.code()).with_error_message(Some(StrBytes::from_string(message))),
    }
}

//! AlterConfigs: v0-2. The configurations given are set, all others go back to their defaults. Done in the ordered stage.
//!
//! v1 as v0. v2 flexible. Clients of today send IncrementalAlterConfigs.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::alter::{self, Alteration, Mode};
use super::broker::{Broker, Outcome};
use super::configs::Changes;
use super::error::{self, Refused};
use crate::metastore::Configs;

pub(super) async fn answer(broker: Arc<Broker>, request: AlterConfigsRequest, _version: i16) -> Outcome<AlterConfigsResponse> {
    let alteration = |resource: &AlterConfigsResource| Alteration {
        kind: resource.resource_type,
        name: resource.resource_name.clone(),
        changes: changes(&resource.configs),
    };
    let alterations: Vec<Alteration> = request.resources.iter().map(alteration).collect();
    let done = alter::alter(&broker, &alterations, Mode::validating(request.validate_only)).await;
    let responses: Vec<_> = alterations.into_iter().zip(done).map(|(alteration, done)| response(alteration, done)).collect();
    let code = error::first(responses.iter().map(|response| response.error_code));
    Outcome::new(AlterConfigsResponse::default().with_responses(responses), code)
}

fn changes(configs: &[AlterableConfig]) -> Result<Changes, Refused> {
    let mut all = Configs::new();
    for config in configs {
        let null = || (ResponseError::InvalidRequest, format!("Null value not supported for : {}", &*config.name));
        let value = config.value.as_ref().ok_or_else(null)?.trim().to_owned();
        if all.insert(config.name.to_string(), value).is_some() {
            return Err((ResponseError::InvalidRequest, format!("Error due to duplicate config keys : {}", &*config.name)));
        }
    }
    Ok(Changes::Replace(all))
}

fn response(alteration: Alteration, done: Result<(), Refused>) -> AlterConfigsResourceResponse {
    let response = AlterConfigsResourceResponse::default().with_resource_type(alteration.kind).with_resource_name(alteration.name);
    match done {
        Ok(()) => response,
        Err((error, message)) => response.with_error_code(error.code()).with_error_message(Some(StrBytes::from_string(message))),
    }
}

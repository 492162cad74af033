//! IncrementalAlterConfigs: v0-1 (KIP-339). Each configuration is set, unset, or a list gains or loses items. Done in the ordered stage.
//!
//! v1 flexible.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::alter::{self, Alteration, Mode};
use super::broker::{Broker, Outcome};
use super::configs::{Change, Changes};
use super::error::{self, Refused};

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub(super) async fn answer(
    broker: Arc<Broker>,
    request: IncrementalAlterConfigsRequest,
    _version: i16,
) -> Outcome<IncrementalAlterConfigsResponse> {
    let alteration = |resource: &AlterConfigsResource| Alteration {
        kind: resource.resource_type,
        name: resource.resource_name.clone(),
        changes: changes(&resource.configs),
    };
    let alterations: Vec<Alteration> = request.resources.iter().map(alteration).collect();
    let done = alter::alter(&broker, &alterations, Mode::validating(request.validate_only)).await;
    let responses: Vec<_> = alterations.into_iter().zip(done).map(|(alteration, done)| response(alteration, done)).collect();
    let code = error::first(responses.iter().map(|response| response.error_code));
    Outcome::new(IncrementalAlterConfigsResponse::default().with_responses(responses), code)
}

fn changes(configs: &[AlterableConfig]) -> Result<Changes, Refused> {
    let mut seen = HashSet::new();
    if let Some(twice) = configs.iter().find(|config| !seen.insert(&*config.name)) {
        return Err((ResponseError::InvalidRequest, format!("Error due to duplicate config keys : {}", &*twice.name)));
    }
    let named = |config: &AlterableConfig| Ok((config.name.to_string(), change(config)?));
    configs.iter().map(named).collect::<Result<_, Refused>>().map(Changes::Some)
}

fn change(config: &AlterableConfig) -> Result<Change, Refused> {
    let invalid = |reason: String| (ResponseError::InvalidRequest, reason);
    let value = || {
        let value = config.value.as_ref().map(ToString::to_string);
        value.ok_or_else(|| invalid(format!("Null value not supported for : {}", &*config.name)))
    };
    match config.config_operation {
        SET => value().map(Change::Set),
        DELETE => Ok(Change::Unset),
        APPEND => value().map(Change::Append),
        SUBTRACT => value().map(Change::Subtract),
        other => Err(invalid(format!("{other} is not an operation on configurations"))),
    }
}

fn response(alteration: Alteration, done: Result<(), Refused>) -> AlterConfigsResourceResponse {
    let response = AlterConfigsResourceResponse::default().with_resource_type(alteration.kind).with_resource_name(alteration.name);
    match done {
        Ok(()) => response,
        Err((error, message)) => response.with_error_code(error.code()).with_error_message(Some(StrBytes::from_string(message))),
    }
}

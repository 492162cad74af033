//! DescribeUserScramCredentials: v0 (KIP-554). There are no users, so there are no credentials.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
use kafka_protocol::messages::describe_user_scram_credentials_response::DescribeUserScramCredentialsResult;
use kafka_protocol::messages::{DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse};
use kafka_protocol::protocol::StrBytes;

use super::broker::{Broker, Outcome};
use super::error;

pub(super) async fn answer(
    _broker: Arc<Broker>,
    request: DescribeUserScramCredentialsRequest,
    _version: i16,
) -> Outcome<DescribeUserScramCredentialsResponse> {
    let unknown = |user: &UserName| {
        let message = format!("Attempt to describe a user credential that does not exist: {}", &*user.name);
        DescribeUserScramCredentialsResult::default()
            .with_user(user.name.clone())
            .with_error_code(ResponseError::ResourceNotFound.code())
            .with_error_message(Some(StrBytes::from_string(message)))
    };
    let results: Vec<_> = request.users.iter().flatten().map(unknown).collect();
    let code = error::first(results.iter().map(|result| result.error_code));
    Outcome::new(DescribeUserScramCredentialsResponse::default().with_results(results), code)
}

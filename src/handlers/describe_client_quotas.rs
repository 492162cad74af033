//! DescribeClientQuotas: v0-1 (KIP-546). No client is throttled, so whatever is asked for, there are none.
//!
//! v1 flexible.

use std::sync::Arc;

use kafka_protocol::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};

use super::broker::{Broker, Outcome};

pub(super) async fn answer(
    _broker: Arc<Broker>,
    _request: DescribeClientQuotasRequest,
    _version: i16,
) -> Outcome<DescribeClientQuotasResponse> {
    Outcome::fine(DescribeClientQuotasResponse::default().with_entries(Some(Vec::new())))
}

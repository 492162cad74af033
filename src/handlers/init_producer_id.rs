//! InitProducerId: v0-5. Ids for idempotent producers; transactions are not served yet.
//!
//! v2 flexible. v3 a producer may come with the id it has (KIP-360), which only matters for transactions. v4 and v5: error codes.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId as WireProducerId};

use super::broker::{Broker, Outcome};
use super::error::{self, Asked};

pub(super) async fn answer(broker: Arc<Broker>, request: InitProducerIdRequest, _version: i16) -> Outcome<InitProducerIdResponse> {
    if request.transactional_id.is_some() {
        // Final for every client; others they would retry for ever.
        return refused(ResponseError::TransactionalIdAuthorizationFailed);
    }
    match broker.producer_ids.next().await {
        Ok(id) => Outcome::fine(InitProducerIdResponse::default().with_producer_id(WireProducerId(id.0)).with_producer_epoch(0)),
        Err(failed) => refused(error::meta(Asked::Group, &failed)),
    }
}

fn refused(error: ResponseError) -> Outcome<InitProducerIdResponse> {
    let answer =
        InitProducerIdResponse::default().with_error_code(error.code()).with_producer_id(WireProducerId(-1)).with_producer_epoch(-1);
    Outcome::new(answer, error.code())
}

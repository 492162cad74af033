//! InitProducerId: v0-5. Ids for idempotent producers; transactions are not served yet.
//!
//! v2 flexible. v3 a producer may come with the id it has (KIP-360), which only matters for transactions. v4 and v5: error codes.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId as WireProducerId};

use super::broker::{Broker, Outcome};
use super::error::{self, Asked};
use crate::metastore::{Log, MetaError};
use crate::types::ProducerId;

/// Ids an agent takes from the metastore at once. Those it does not use are lost, which costs nothing: there are 2^63.
const BLOCK: u32 = 1_000;

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

/// Producer ids that nobody else gives out.
pub(super) struct ProducerIds {
    log: Arc<dyn Log>,
    left: Mutex<Range<i64>>,
}

impl ProducerIds {
    pub(super) fn new(log: Arc<dyn Log>) -> Self {
        ProducerIds { log, left: Mutex::default() }
    }

    pub(super) async fn next(&self) -> Result<ProducerId, MetaError> {
        let next = self.left().next();
        if let Some(id) = next {
            return Ok(ProducerId(id));
        }
        let first = self.log.reserve_producer_ids(BLOCK).await?;
        // Of several requests that come here together each takes a block; the last one's is kept.
        *self.left() = first.0 + 1..first.0 + i64::from(BLOCK);
        Ok(first)
    }

    fn left(&self) -> MutexGuard<'_, Range<i64>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

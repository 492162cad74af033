//! Ids for producers, taken from the metastore a block at a time.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::metastore::{Log, MetaError};
use crate::types::ProducerId;

/// Ids an agent takes from the metastore at once. Those it does not use are lost, which costs nothing: there are 2^63.
const BLOCK: u32 = 1_000;

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

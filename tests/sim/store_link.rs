//! An agent's way to the store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use yaks::store::flaky::FlakyStore;
use yaks::store::{Listed, ObjectBody, ObjectStore, ReadRange, StoreError};
use yaks::types::{ByteRange, ObjectId};

use crate::gate::Gate;
use crate::sabotage::Sabotage;
use crate::world::Dice;

/// How long an S3 client waits for an answer before it calls it an error.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// An agent's way to the store, without a cache.
#[derive(Debug)]
pub(crate) struct StoreLink {
    flaky: Arc<FlakyStore>,
    gate: Gate,
    dice: Dice,
    sabotage: Sabotage,
}

impl StoreLink {
    pub(crate) fn new(flaky: Arc<FlakyStore>, gate: Gate, dice: Dice, sabotage: Sabotage) -> StoreLink {
        StoreLink { flaky, gate, dice, sabotage }
    }

    async fn through<T>(&self, call: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        self.gate.pass().await;
        let result = call.await;
        self.gate.pass().await;
        result
    }

    fn sabotaged(&self, sabotage: Sabotage, thousandths: u64) -> bool {
        self.sabotage == sabotage && self.dice.chance(thousandths)
    }
}

#[async_trait]
impl ObjectStore for StoreLink {
    async fn put(&self, object: ObjectId, body: ObjectBody) -> Result<(), StoreError> {
        if self.sabotaged(Sabotage::PutLost, 30) {
            return Ok(());
        }
        self.through(self.flaky.put(object, body)).await
    }

    async fn get_up_to(&self, object: ObjectId, range: ByteRange) -> Result<Vec<Bytes>, StoreError> {
        self.through(self.flaky.get_up_to(object, range)).await
    }

    async fn delete(&self, objects: &[ObjectId]) -> Result<(), StoreError> {
        self.through(self.flaky.delete(objects)).await
    }

    async fn list(&self, after: Option<ObjectId>, limit: usize) -> Result<Vec<Listed>, StoreError> {
        self.through(self.flaky.list(after, limit)).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.through(self.flaky.check()).await
    }

    fn describe(&self) -> String {
        self.flaky.describe()
    }
}

#[async_trait]
impl ReadRange for StoreLink {
    async fn read_range(&self, object: ObjectId, range: ByteRange) -> Result<Vec<Bytes>, StoreError> {
        let timed_out = |_| Err(StoreError::Unavailable("timed out".to_owned()));
        let pieces = tokio::time::timeout(READ_TIMEOUT, self.get_range(object, range)).await.unwrap_or_else(timed_out)?;
        if !self.sabotaged(Sabotage::BitFlipped, 20) {
            return Ok(pieces);
        }
        let mut joined = pieces.concat();
        if let Some(last) = joined.last_mut() {
            *last ^= 1;
        }
        Ok(vec![Bytes::from(joined)])
    }

    fn will_need(&self, _: ObjectId, _: &[ByteRange]) {}

    fn room_ahead(&self, _: ObjectId) -> u64 {
        0
    }
}

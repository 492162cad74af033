//! Counts what goes through a store.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Listed, ObjectBody, ObjectStore, StoreError};
use crate::metrics::{Status, StoreMetrics};
use crate::types::{ByteRange, ObjectId};

/// A store in front of another.
#[derive(Debug)]
pub struct MeasuredStore {
    inner: Arc<dyn ObjectStore>,
    metrics: StoreMetrics,
}

impl MeasuredStore {
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>, metrics: StoreMetrics) -> Self {
        MeasuredStore { inner, metrics }
    }

    fn count<T>(&self, operation: &'static str, result: &Result<T, StoreError>, bytes: impl FnOnce(&T) -> u64) {
        self.metrics.request(operation, Status::of(result), result.as_ref().map_or(0, bytes));
    }
}

#[async_trait]
impl ObjectStore for MeasuredStore {
    async fn put(&self, object: ObjectId, body: ObjectBody) -> Result<(), StoreError> {
        let len = body.len();
        let result = self.inner.put(object, body).await;
        self.count("put", &result, |()| len);
        result
    }

    async fn get_up_to(&self, object: ObjectId, range: ByteRange) -> Result<Vec<Bytes>, StoreError> {
        let result = self.inner.get_up_to(object, range).await;
        self.count("get", &result, |pieces| pieces.iter().map(|piece| piece.len() as u64).sum());
        result
    }

    async fn delete(&self, objects: &[ObjectId]) -> Result<(), StoreError> {
        let result = self.inner.delete(objects).await;
        self.count("delete", &result, |()| 0);
        result
    }

    async fn list(&self, after: Option<ObjectId>, limit: usize) -> Result<Vec<Listed>, StoreError> {
        let result = self.inner.list(after, limit).await;
        self.count("list", &result, |_| 0);
        result
    }

    /// Not counted: it says nothing of the work done.
    async fn check(&self) -> Result<(), StoreError> {
        self.inner.check().await
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::store::memory::MemoryStore;

    #[tokio::test]
    async fn requests_and_bytes_are_counted_by_operation_and_status() {
        let metrics = Metrics::new().expect("metrics");
        let store = MeasuredStore::new(Arc::new(MemoryStore::new()), metrics.store.clone());
        let object = ObjectId([1; 16]);
        store.put(object, ObjectBody::new(vec![Bytes::from_static(b"12345")])).await.expect("put");
        store.get_range(object, ByteRange { start: 1, len: 3 }).await.expect("get");
        store.get_range(ObjectId([2; 16]), ByteRange { start: 1, len: 3 }).await.expect_err("missing");
        let text = metrics.render().expect("text");
        for line in [
            "yaks_s3_requests_total{operation=\"put\",status=\"success\"} 1",
            "yaks_s3_requests_total{operation=\"get\",status=\"success\"} 1",
            "yaks_s3_requests_total{operation=\"get\",status=\"error\"} 1",
            "yaks_s3_bytes_total{operation=\"put\"} 5",
            "yaks_s3_bytes_total{operation=\"get\"} 3",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}

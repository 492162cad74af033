//! Counts what goes through a store.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::{Listed, ObjectBody, ObjectStore, StoreError};
use crate::metrics::StoreMetrics;
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

    /// Runs one request, with what it took and how it ended.
    async fn measure<T>(
        &self,
        operation: &'static str,
        request: impl Future<Output = Result<T, StoreError>>,
        bytes: impl FnOnce(&T) -> u64,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let result = request.await;
        self.metrics.request(operation, status(&result), result.as_ref().map_or(0, bytes), began.elapsed());
        result
    }
}

fn status<T>(result: &Result<T, StoreError>) -> &'static str {
    match result {
        Ok(_) => "success",
        Err(StoreError::NotFound(_)) => "not_found",
        Err(StoreError::OutOfRange { .. }) => "out_of_range",
        Err(StoreError::Full(_)) => "full",
        Err(StoreError::Refused(_)) => "refused",
        Err(StoreError::Unavailable(_)) => "unavailable",
    }
}

#[async_trait]
impl ObjectStore for MeasuredStore {
    async fn put(&self, object: ObjectId, body: ObjectBody) -> Result<(), StoreError> {
        let len = body.len();
        self.measure("put", self.inner.put(object, body), |()| len).await
    }

    async fn get_up_to(&self, object: ObjectId, range: ByteRange) -> Result<Vec<Bytes>, StoreError> {
        self.measure("get", self.inner.get_up_to(object, range), |pieces| pieces.iter().map(|piece| piece.len() as u64).sum()).await
    }

    async fn delete(&self, objects: &[ObjectId]) -> Result<(), StoreError> {
        self.measure("delete", self.inner.delete(objects), |()| 0).await
    }

    async fn list(&self, after: Option<ObjectId>, limit: usize) -> Result<Vec<Listed>, StoreError> {
        self.measure("list", self.inner.list(after, limit), |_| 0).await
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
            "yaks_s3_requests_total{operation=\"get\",status=\"not_found\"} 1",
            "yaks_s3_request_duration_seconds_count{operation=\"get\"} 2",
            "yaks_s3_bytes_total{operation=\"put\"} 5",
            "yaks_s3_bytes_total{operation=\"get\"} 3",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}

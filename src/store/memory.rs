//! Objects in memory: for tests and simulations. The same calls in the same order give the same answers.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Listed, ObjectBody, ObjectStore, StoreError};
use crate::types::{ByteRange, DATA_PREFIX, ObjectId};

/// A store that forgets everything when it is dropped.
#[derive(Debug, Default)]
pub struct MemoryStore {
    /// By key, because listings are in the order of keys, not of ids.
    objects: Mutex<BTreeMap<String, (ObjectId, ObjectBody)>>,
}

impl MemoryStore {
    #[must_use]
    pub fn new() -> Self {
        MemoryStore::default()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, (ObjectId, ObjectBody)>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ObjectStore for MemoryStore {
    async fn put(&self, object: ObjectId, body: ObjectBody) -> Result<(), StoreError> {
        self.objects().insert(object.key(), (object, body));
        Ok(())
    }

    async fn get_up_to(&self, object: ObjectId, range: ByteRange) -> Result<Vec<Bytes>, StoreError> {
        if range.len == 0 {
            return Ok(Vec::new());
        }
        let objects = self.objects();
        let (_, body) = objects.get(&object.key()).ok_or(StoreError::NotFound(object))?;
        if range.start >= body.len() {
            return Err(StoreError::OutOfRange { object, range });
        }
        Ok(body.slice(range))
    }

    async fn delete(&self, ids: &[ObjectId]) -> Result<(), StoreError> {
        let mut objects = self.objects();
        for id in ids {
            objects.remove(&id.key());
        }
        Ok(())
    }

    async fn list(&self, after: Option<ObjectId>, limit: usize) -> Result<Vec<Listed>, StoreError> {
        let from = after.map_or(Bound::Included(DATA_PREFIX.to_owned()), |id| Bound::Excluded(id.key()));
        let objects = self.objects();
        let listed = objects.range((from, Bound::Unbounded)).take(limit);
        Ok(listed.map(|(_, (object, body))| Listed { object: *object, bytes: body.len() }).collect())
    }

    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn describe(&self) -> String {
        "memory (lost at exit)".to_owned()
    }
}

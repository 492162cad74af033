//! The objects of `yaks dev`: small ones lie in the metastore's file, beside their events, the others in files of their own.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::LOCAL_PAGE_BYTES;
use crate::metastore::{MetaError, Metastore};
use crate::store::{Listed, ObjectBody, ObjectStore, StoreError, slice};
use crate::types::{ByteRange, ObjectId};

/// Readers who want more at once want a second page, which no small object has.
const ONE_PAGE: u64 = LOCAL_PAGE_BYTES.get();

/// A store that also reads and deletes the objects which came with their events. Only files are listed: a listing is for who looks for objects that the
/// metastore does not know, and those lie in it.
#[derive(Debug)]
pub(super) struct WithInlined {
    files: Arc<dyn ObjectStore>,
    metastore: Arc<dyn Metastore>,
}

impl WithInlined {
    pub(super) fn new(files: Arc<dyn ObjectStore>, metastore: Arc<dyn Metastore>) -> WithInlined {
        WithInlined { files, metastore }
    }

    /// `None` if it did not come with its event.
    async fn inlined(&self, object: ObjectId, range: ByteRange) -> Result<Option<Result<Vec<Bytes>, StoreError>>, StoreError> {
        let Some(whole) = self.metastore.inlined_object(object).await.map_err(failed)? else { return Ok(None) };
        let pieces = slice(&[whole], range);
        Ok(Some(if pieces.is_empty() { Err(StoreError::OutOfRange { object, range }) } else { Ok(pieces) }))
    }
}

#[async_trait]
impl ObjectStore for WithInlined {
    async fn put(&self, object: ObjectId, body: ObjectBody) -> Result<(), StoreError> {
        self.files.put(object, body).await
    }

    async fn get_up_to(&self, object: ObjectId, range: ByteRange) -> Result<Vec<Bytes>, StoreError> {
        if range.len == 0 {
            return Ok(Vec::new());
        }
        let perhaps_small = range.start < self.metastore.inline_max() && range.len <= ONE_PAGE;
        if perhaps_small && let Some(found) = self.inlined(object, range).await? {
            return found;
        }
        match self.files.get_up_to(object, range).await {
            Err(error @ StoreError::NotFound(_)) if !perhaps_small => self.inlined(object, range).await?.unwrap_or(Err(error)),
            found => found,
        }
    }

    async fn delete(&self, objects: &[ObjectId]) -> Result<(), StoreError> {
        // Files first: on a full disk, that makes room.
        self.files.delete(objects).await?;
        self.metastore.delete_inlined(objects).await.map_err(failed)
    }

    async fn list(&self, after: Option<ObjectId>, limit: usize) -> Result<Vec<Listed>, StoreError> {
        self.files.list(after, limit).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.files.check().await
    }

    fn describe(&self) -> String {
        self.files.describe()
    }
}

fn failed(error: MetaError) -> StoreError {
    match error {
        MetaError::Full(why) => StoreError::Full(why),
        MetaError::Refused(why) | MetaError::Schema(why) | MetaError::Corrupt(why) => StoreError::Refused(why),
        MetaError::Unavailable(why) | MetaError::Indeterminate(why) => StoreError::Unavailable(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::metastore::WriteEvent;
    use crate::metastore::sqlite::{SqliteConfig, SqliteMetastore};
    use crate::records::object::encode_index;
    use crate::store::contract::keeps_the_contract;
    use crate::store::local::LocalStore;
    use crate::types::NodeId;

    async fn open(directory: &tempfile::TempDir) -> (Arc<dyn Metastore>, Arc<dyn ObjectStore>) {
        let metastore = SqliteMetastore::open(SqliteConfig::new(directory.path()), Arc::new(SystemClock)).await.expect("opened");
        metastore.migrate().await.expect("migrated");
        let metastore: Arc<dyn Metastore> = Arc::new(metastore);
        let files = Arc::new(LocalStore::open(directory.path()).expect("opened"));
        (Arc::clone(&metastore), Arc::new(WithInlined::new(files, metastore)))
    }

    fn inlined(number: u8, body: &'static [u8]) -> WriteEvent {
        let index = encode_index(&[]);
        let inlined = Some(Bytes::from_static(body));
        WriteEvent { object: ObjectId([number; 16]), node: NodeId(0), object_bytes: body.len() as u64, index, inlined }
    }

    #[tokio::test]
    async fn it_keeps_the_contract_of_stores() {
        let directory = tempfile::tempdir().expect("directory");
        let (_metastore, store) = open(&directory).await;
        keeps_the_contract(&store).await;
    }

    #[tokio::test]
    async fn objects_of_both_kinds_are_read_and_deleted_alike() {
        let directory = tempfile::tempdir().expect("directory");
        let (metastore, store) = open(&directory).await;
        // Once more with other bytes: as everywhere, the first ones stay.
        for events in [[inlined(2, b"hello world"), inlined(4, b"later")], [inlined(2, b"other"), inlined(6, b"last")]] {
            metastore.append(&events, [1; 16]).await.expect("appended");
        }
        store.put(ObjectId([3; 16]), ObjectBody::new(vec![Bytes::from_static(b"file")])).await.expect("put");
        let read = |number, start, len| {
            let store = Arc::clone(&store);
            async move { store.get_up_to(ObjectId([number; 16]), ByteRange { start, len }).await.map(|pieces| pieces.concat()) }
        };
        assert_eq!(read(2, 6, 100).await.expect("read"), b"world");
        assert_eq!(read(2, 6, 1 << 30).await.expect("read, though so much lies in files"), b"world");
        assert_eq!(read(3, 0, 100).await.expect("read"), b"file");
        for start in [11, metastore.inline_max(), 1 << 40] {
            assert!(matches!(read(2, start, 1).await, Err(StoreError::OutOfRange { .. })), "from {start}");
        }
        assert!(matches!(read(5, 0, 1).await, Err(StoreError::NotFound(_))));
        assert_eq!(store.list(None, 10).await.expect("listed"), [Listed { object: ObjectId([3; 16]), bytes: 4 }]);
        store.delete(&[2, 3, 4, 5].map(|number| ObjectId([number; 16]))).await.expect("deleted");
        for number in [2, 3, 4, 5] {
            assert!(matches!(read(number, 0, 1).await, Err(StoreError::NotFound(_))), "object {number}");
        }
        assert_eq!(read(6, 0, 100).await.expect("read"), b"last");
        assert_eq!(store.list(None, 10).await.expect("listed"), []);
    }
}

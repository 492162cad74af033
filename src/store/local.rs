//! Objects as files below one directory: for one process on one machine.
//!
//! A put writes a file of its own under `tmp/`, makes it durable, and renames it to its key: whoever looks sees the whole object or none, also after a
//! power failure. Only when the directory entry is durable too does the put return. A put that died half-way leaves a file under `tmp/`,
//! which the next start removes.

mod direct;
mod files;
mod memory;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Listed, ObjectBody, ObjectStore, StoreError};
use crate::types::{ByteRange, ObjectId};
use files::Files;

/// A store in a local directory.
#[derive(Debug)]
pub struct LocalStore {
    files: Arc<Files>,
}

impl LocalStore {
    /// Opens the store in `root`, creating the directory if it is missing. Blocks: for the start of a process.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the directory cannot be made or written, [`StoreError::Full`] if there is no room.
    pub fn open(root: impl Into<PathBuf>) -> Result<LocalStore, StoreError> {
        Ok(LocalStore { files: Arc::new(Files::open(root.into())?) })
    }

    /// Runs file work where it may block: one hop for the whole of it.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let files = Arc::clone(&self.files);
        let done = tokio::task::spawn_blocking(move || work(&files)).await;
        done.unwrap_or_else(|error| Err(StoreError::Unavailable(format!("file work did not finish: {error}"))))
    }
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put(&self, object: ObjectId, body: ObjectBody) -> Result<(), StoreError> {
        self.blocking(move |files| files.put(object, body.pieces())).await
    }

    async fn get_up_to(&self, object: ObjectId, range: ByteRange) -> Result<Vec<Bytes>, StoreError> {
        if range.len == 0 {
            return Ok(Vec::new());
        }
        self.blocking(move |files| files.get(object, range)).await
    }

    async fn delete(&self, objects: &[ObjectId]) -> Result<(), StoreError> {
        let objects = objects.to_vec();
        self.blocking(move |files| files.delete(&objects)).await
    }

    async fn list(&self, after: Option<ObjectId>, limit: usize) -> Result<Vec<Listed>, StoreError> {
        self.blocking(move |files| files.list(after, limit)).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.blocking(Files::check).await
    }

    fn describe(&self) -> String {
        format!("directory {}", self.files.root().display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn leftovers_of_a_dead_process_are_removed_and_objects_stay() {
        let dir = tempfile::tempdir().expect("directory");
        let object = ObjectId([7; 16]);
        let body = ObjectBody::new(vec![Bytes::from_static(b"kept")]);
        LocalStore::open(dir.path()).expect("open").put(object, body).await.expect("put");
        let leftover = dir.path().join("tmp/half-written");
        std::fs::write(&leftover, b"half").expect("write");
        let store = LocalStore::open(dir.path()).expect("open again");
        assert!(!leftover.exists());
        let read = store.get_range(object, ByteRange { start: 0, len: 4 }).await.expect("get");
        assert_eq!(read, [Bytes::from_static(b"kept")]);
    }

    #[tokio::test]
    async fn a_second_opener_leaves_the_files_of_the_first_alone() {
        let dir = tempfile::tempdir().expect("directory");
        let first = LocalStore::open(dir.path()).expect("open");
        let in_flight = dir.path().join("tmp/in-flight");
        std::fs::write(&in_flight, b"half").expect("write");
        let second = LocalStore::open(dir.path()).expect("open again");
        assert!(in_flight.exists());
        drop((first, second));
    }

    #[tokio::test]
    async fn a_put_leaves_nothing_temporary() {
        let dir = tempfile::tempdir().expect("directory");
        let store = LocalStore::open(dir.path()).expect("open");
        for id in 0..20u8 {
            store.put(ObjectId([id; 16]), ObjectBody::new(vec![Bytes::from_static(b"x")])).await.expect("put");
        }
        store.check().await.expect("check");
        assert_eq!(std::fs::read_dir(dir.path().join("tmp")).expect("tmp").count(), 0);
    }

    #[tokio::test]
    async fn a_vanished_directory_is_told_by_the_check() {
        let dir = tempfile::tempdir().expect("directory");
        let store = LocalStore::open(dir.path().join("data-dir")).expect("open");
        std::fs::remove_dir_all(dir.path().join("data-dir")).expect("remove");
        let error = store.check().await.expect_err("the directory is gone");
        assert!(error.to_string().contains("data-dir"), "{error}");
    }

    #[test]
    fn a_file_in_the_way_is_refused_with_its_path() {
        let dir = tempfile::tempdir().expect("directory");
        let file = dir.path().join("file");
        std::fs::write(&file, b"").expect("write");
        let error = LocalStore::open(&file).expect_err("not a directory");
        assert!(matches!(&error, StoreError::Refused(why) if why.contains("file")), "{error}");
    }
}

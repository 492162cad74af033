//! Where record data lives: immutable objects, written once, read by ranges.
//!
//! An object is named by its id alone; its bytes never change. `put` of the same id twice carries the same bytes (a
//! retry or a hedge), so it must succeed both times and never leave a torn object visible. A `put` that returned
//! is durable. A `put` that failed may still have happened; nobody relies on either, because an object counts only once its
//! write event is committed.
//!
//! Three stores: [`s3`] for agents, [`local`] for one process on a laptop, [`memory`] for tests; [`flaky`] wraps any of them
//! and makes it fail on purpose, [`measured`] counts what goes through. One suite, `contract`, runs against all.

mod body;
#[cfg(test)]
pub(crate) mod contract;
pub mod flaky;
pub mod local;
pub mod measured;
pub mod memory;
pub mod s3;

use async_trait::async_trait;
use bytes::Bytes;

pub use body::{ObjectBody, slice};

use crate::types::{ByteRange, ObjectId};

/// Why a store did not do as it was told.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The object is not there.
    #[error("object {0} does not exist in the store")]
    NotFound(ObjectId),
    /// The range begins or ends beyond the object.
    #[error("object {object}: no bytes {}..{} in it", range.start, range.end())]
    OutOfRange { object: ObjectId, range: ByteRange },
    /// The store is full: a retry helps only after room was made.
    #[error("the store is full: {0}")]
    Full(String),
    /// The store refused for good: wrong credentials, no such bucket, no permission.
    #[error("the store refused: {0}")]
    Refused(String),
    /// The store could not be reached, was too slow or failed inside. It may have happened. A retry may help.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
}

/// One object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub object: ObjectId,
    pub bytes: u64,
}

/// A store of immutable objects.
#[async_trait]
pub trait ObjectStore: Send + Sync + std::fmt::Debug {
    /// Makes the object durable under its key.
    async fn put(&self, object: ObjectId, body: ObjectBody) -> Result<(), StoreError>;

    /// The bytes of `range` as far as the object goes, in pieces as they came: fewer than asked for if the object ends inside the range,
    /// [`StoreError::OutOfRange`] if it ends at or before its start. An empty range is answered without asking. For readers of whole
    /// pages, who do not know how long the object is.
    async fn get_up_to(&self, object: ObjectId, range: ByteRange) -> Result<Vec<Bytes>, StoreError>;

    /// Exactly `range.len` bytes from `range.start`, or [`StoreError::OutOfRange`]; pieces in order, as they came.
    async fn get_range(&self, object: ObjectId, range: ByteRange) -> Result<Vec<Bytes>, StoreError> {
        let pieces = self.get_up_to(object, range).await?;
        let len: u64 = pieces.iter().map(|p| p.len() as u64).sum();
        if len == range.len { Ok(pieces) } else { Err(StoreError::OutOfRange { object, range }) }
    }

    /// Removes objects; one that is not there counts as removed.
    async fn delete(&self, objects: &[ObjectId]) -> Result<(), StoreError>;

    /// Objects below the data prefix in key order, at most `limit` (up to 1,000), beginning after the key of `after`. Fewer than
    /// `limit` means the end. Foreign keys are skipped.
    async fn list(&self, after: Option<ObjectId>, limit: usize) -> Result<Vec<Listed>, StoreError>;

    /// Fails unless the store can be reached and used now.
    async fn check(&self) -> Result<(), StoreError>;

    /// What the start line says of it: kind and place, no secrets.
    fn describe(&self) -> String;
}

/// Reading ranges of objects: what a fetch needs. The store itself, or a cache in front of it.
#[async_trait]
pub trait ReadRange: Send + Sync + std::fmt::Debug {
    /// Exactly the bytes of `range`, in pieces.
    async fn read_range(&self, object: ObjectId, range: ByteRange) -> Result<Vec<Bytes>, StoreError>;

    /// Says that these ranges of an object, in any order, will be wanted soon. Never waits, never fails.
    fn will_need(&self, object: ObjectId, ranges: &[ByteRange]);

    /// Bytes of objects as old as this one that may be said to be wanted soon, by all who read: more would not stay until they are wanted.
    fn room_ahead(&self, object: ObjectId) -> u64;
}

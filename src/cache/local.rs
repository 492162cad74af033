//! The cache of one agent.

use std::num::NonZeroU64;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::entries::{Entries, Part};
use super::load::{LoadLimits, Loader};
use super::pages::{Page, PageSize};
use super::pieces::Pieces;
use crate::metrics::CacheMetrics;
use crate::store::{ObjectBody, ObjectStore, ReadRange, StoreError};
use crate::tasks::Tasks;
use crate::types::{ByteRange, ObjectId};

/// How much is kept and how it is loaded.
#[derive(Debug, Clone, Copy)]
pub struct CacheConfig {
    /// Bytes in memory, overhead included.
    pub capacity: u64,
    pub page_bytes: NonZeroU64,
    /// Neighbouring pages are loaded by one request, up to this many bytes.
    pub get_bytes: u64,
    /// Requests to the store at the same time.
    pub gets_at_once: usize,
    /// Pages that are loaded in advance at the same time; further wishes are dropped.
    pub prefetched_pages: usize,
}

impl CacheConfig {
    const PAGE_BYTES: NonZeroU64 = NonZeroU64::MIN.saturating_add((1 << 20) - 1);

    /// The usual pages and limits.
    #[must_use]
    pub fn with_capacity(capacity: u64) -> CacheConfig {
        CacheConfig { capacity, page_bytes: Self::PAGE_BYTES, get_bytes: 4 * 1024 * 1024, gets_at_once: 32, prefetched_pages: 16 }
    }
}

/// Reads ranges of objects, from memory if it can.
#[derive(Debug, Clone)]
pub struct ObjectCache {
    entries: Arc<Entries>,
    loader: Arc<Loader>,
    page_size: PageSize,
}

impl ObjectCache {
    /// A cache in front of `store`. Loads run as tasks of `tasks`.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, config: CacheConfig, tasks: Tasks, metrics: CacheMetrics) -> ObjectCache {
        let page_size = PageSize(config.page_bytes);
        let entries = Arc::new(Entries::new(config.capacity, metrics));
        let limits = LoadLimits {
            pages_per_get: (config.get_bytes / config.page_bytes).max(1),
            gets_at_once: config.gets_at_once,
            prefetched_pages: config.prefetched_pages,
        };
        let loader = Arc::new(Loader::new(store, Arc::clone(&entries), page_size, limits, tasks));
        ObjectCache { entries, loader, page_size }
    }

    /// Keeps an object that this agent has just stored, in the pieces that it has already.
    pub async fn insert(&self, object: ObjectId, body: ObjectBody) {
        self.entries.insert(object, Part::Whole, Arc::new(Pieces::new(body.into_pieces()))).await;
    }

    /// Bytes held, overhead included; may lag behind a little.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.entries.bytes()
    }

    /// The pages of `range`, in order: those in memory, then those that are loaded for it.
    async fn pages(&self, object: ObjectId, range: ByteRange) -> Result<Vec<(Page, Arc<Pieces>)>, StoreError> {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for page in self.page_size.pages(range) {
            match self.entries.get(object, Part::Page(page)).await {
                Some(pieces) => found.push((page, pieces)),
                None => missing.push(page),
            }
        }
        self.entries.metrics.looked_up((found.len() + missing.len()) as u64, found.len() as u64);
        for (page, awaited) in self.loader.load(object, &missing) {
            found.push((page, awaited.loaded().await?));
        }
        found.sort_unstable_by_key(|(page, _)| *page);
        Ok(found)
    }
}

#[async_trait]
impl ReadRange for ObjectCache {
    /// Cancel safe: loads that were begun go on.
    async fn read_range(&self, object: ObjectId, range: ByteRange) -> Result<Vec<Bytes>, StoreError> {
        if range.len == 0 {
            return Ok(Vec::new());
        }
        let beyond = StoreError::OutOfRange { object, range };
        if let Some(whole) = self.entries.get(object, Part::Whole).await {
            self.entries.metrics.looked_up(1, 1);
            return whole.slice(range).ok_or(beyond);
        }
        let mut read = Vec::new();
        for (page, pieces) in self.pages(object, range).await? {
            match pieces.slice(self.page_size.within(page, range)) {
                Some(part) => read.extend(part),
                None => return Err(beyond),
            }
        }
        Ok(read)
    }

    fn will_need(&self, object: ObjectId, range: ByteRange) {
        if !self.entries.has(object, Part::Whole) {
            let missing: Vec<Page> = self.page_size.pages(range).filter(|page| !self.entries.has(object, Part::Page(*page))).collect();
            self.loader.load_in_advance(object, missing);
        }
    }
}

#[cfg(test)]
mod tests;

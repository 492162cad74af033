//! The cache of one agent.

use std::num::NonZeroU64;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::entries::{Age, Entries, Keeper, Part};
use super::load::{LoadLimits, Loader, Purpose};
use super::pages::{Page, PageSize};
use super::peer::{PeerParts, Peers};
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
    /// Neighbouring pages are loaded by one request, up to this many bytes. With peers, also the size of a chunk.
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
        CacheConfig { capacity, page_bytes: Self::PAGE_BYTES, get_bytes: 4 * 1024 * 1024, gets_at_once: 32, prefetched_pages: 32 }
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
    /// A cache in front of `store`, shared with `peers`, if there are any. Loads run as tasks of `tasks`.
    #[must_use]
    pub fn new(
        store: Arc<dyn ObjectStore>,
        peers: Option<PeerParts>,
        config: CacheConfig,
        tasks: Tasks,
        metrics: CacheMetrics,
    ) -> ObjectCache {
        let page_size = PageSize(config.page_bytes);
        let entries = Arc::new(Entries::new(config.capacity, peers.is_some(), metrics.clone()));
        let limits = LoadLimits {
            pages_per_get: (config.get_bytes / config.page_bytes).max(1),
            gets_at_once: config.gets_at_once,
            prefetched_pages: config.prefetched_pages,
        };
        let peers = peers.map(|parts| Peers::new(parts, metrics));
        let loader = Arc::new(Loader::new(store, peers, Arc::clone(&entries), page_size, limits, tasks));
        ObjectCache { entries, loader, page_size }
    }

    /// Keeps an object that this agent has just stored, in the pieces that it has already.
    pub async fn insert(&self, object: ObjectId, body: ObjectBody) {
        self.entries.insert(object, Part::Whole, Arc::new(Pieces::new(body.into_pieces())), Keeper::Mine).await;
    }

    /// Bytes held, overhead included; may lag behind a little.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.entries.bytes()
    }

    /// What `within` wants of a page that seems to end before it: a peer may have said so, and only the store's word counts. `None` if it says the same.
    async fn doubted(&self, object: ObjectId, page: Page, within: ByteRange) -> Result<Option<Vec<Bytes>>, StoreError> {
        if !self.loader.has_peers() {
            return Ok(None);
        }
        self.entries.forget(object, page).await;
        let mut part = None;
        for (_, awaited) in self.loader.load(object, &[page], Purpose::StoreOnly) {
            part = awaited.loaded().await?.slice(within);
        }
        Ok(part)
    }

    /// What is in memory of `range`, as far as the object goes; `None` if something is missing. For peers.
    pub(super) async fn held(&self, object: ObjectId, range: ByteRange) -> Option<Vec<Bytes>> {
        if let Some(whole) = self.entries.get(object, Part::Whole).await {
            return Some(whole.slice_up_to(range));
        }
        let mut held = Vec::new();
        for page in self.page_size.pages(range) {
            let pieces = self.entries.get(object, Part::Page(page)).await?;
            held.extend(pieces.slice_up_to(self.page_size.within(page, range)));
            if pieces.len() < self.page_size.0.get() {
                break;
            }
        }
        Some(held)
    }

    /// The bytes of `range`, as far as the object goes, from memory or the store, but no peer. For peers.
    pub(super) async fn lend(&self, object: ObjectId, range: ByteRange) -> Result<Vec<Bytes>, StoreError> {
        if let Some(held) = self.held(object, range).await {
            return Ok(held);
        }
        let (mut lent, mut missing) = (Vec::new(), Vec::new());
        for page in self.page_size.pages(range) {
            match self.entries.get(object, Part::Page(page)).await {
                Some(pieces) => lent.push((page, pieces)),
                None => missing.push(page),
            }
        }
        for (page, awaited) in self.loader.load(object, &missing, Purpose::StoreOnly) {
            match awaited.loaded().await {
                Ok(pieces) => lent.push((page, pieces)),
                // The object ended in an earlier page.
                Err(StoreError::OutOfRange { .. }) if !lent.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        lent.sort_unstable_by_key(|(page, _)| *page);
        Ok(lent.into_iter().flat_map(|(page, pieces)| pieces.slice_up_to(self.page_size.within(page, range))).collect())
    }

    #[cfg(test)]
    pub(super) async fn tidy(&self) {
        self.entries.tidy().await;
    }

    #[cfg(test)]
    pub(super) fn borrowed_bytes(&self) -> u64 {
        self.entries.borrowed_bytes()
    }

    pub(super) fn age(&self, object: ObjectId) -> Age {
        self.entries.age(object)
    }

    /// Most bytes that a peer asks for at once.
    pub(super) fn chunk_bytes(&self) -> u64 {
        self.loader.chunk_bytes()
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
        for (page, awaited) in self.loader.load(object, &missing, Purpose::Read) {
            let pieces = match awaited.loaded().await {
                // Who reads it will have doubts.
                Err(StoreError::OutOfRange { .. }) if self.loader.has_peers() => Arc::default(),
                loaded => loaded?,
            };
            found.push((page, pieces));
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
            let within = self.page_size.within(page, range);
            match pieces.slice(within) {
                Some(part) => read.extend(part),
                None => read.extend(self.doubted(object, page, within).await?.ok_or_else(|| beyond.clone())?),
            }
        }
        Ok(read)
    }

    fn will_need(&self, object: ObjectId, ranges: &[ByteRange]) {
        if !self.entries.has(object, Part::Whole) {
            let mut pages: Vec<Page> = ranges.iter().flat_map(|range| self.page_size.pages(*range)).collect();
            pages.sort_unstable();
            pages.dedup();
            pages.retain(|page| !self.entries.has(object, Part::Page(*page)));
            self.loader.load_in_advance(object, pages);
        }
    }

    /// Half of what is kept of such objects: the other half is for ranges that reach further than was asked, and for what was just read.
    fn room_ahead(&self, object: ObjectId) -> u64 {
        self.entries.capacity(object) / 2
    }
}

#[cfg(test)]
mod tests;

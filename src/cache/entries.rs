//! What is in memory, and what goes when there is no room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::future::Cache;
use moka::policy::EvictionPolicy;

use super::pages::Page;
use super::pieces::Pieces;
use crate::metrics::CacheMetrics;
use crate::types::ObjectId;

/// Of the capacity, this part is for old objects: one in four.
const OLD_SHARE: u64 = 4;
/// An object this much older than the youngest one seen counts as old, in milliseconds. Ids carry the time at which they were made.
const RECENT_MILLIS: u64 = 5 * 60 * 1_000;

/// What of an object an entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Part {
    Whole,
    Page(Page),
}

type Tier = Cache<(ObjectId, Part), Arc<Pieces>>;

/// What is in memory.
#[derive(Debug)]
pub(super) struct Entries {
    recent: Tier,
    old: Tier,
    /// When the youngest object seen was made, by its id.
    youngest: AtomicU64,
    pub(super) metrics: CacheMetrics,
}

impl Entries {
    pub(super) fn new(capacity: u64, metrics: CacheMetrics) -> Entries {
        let old = capacity / OLD_SHARE;
        Entries { recent: tier(capacity - old), old: tier(old), youngest: AtomicU64::new(0), metrics }
    }

    pub(super) async fn get(&self, object: ObjectId, part: Part) -> Option<Arc<Pieces>> {
        let key = (object, part);
        if let Some(found) = self.recent.get(&key).await {
            return Some(found);
        }
        if self.is_recent(object) { None } else { self.old.get(&key).await }
    }

    pub(super) fn has(&self, object: ObjectId, part: Part) -> bool {
        let key = (object, part);
        self.recent.contains_key(&key) || self.old.contains_key(&key)
    }

    pub(super) async fn insert(&self, object: ObjectId, part: Part, pieces: Arc<Pieces>) {
        let tier = if self.is_recent(object) { &self.recent } else { &self.old };
        tier.insert((object, part), pieces).await;
        self.metrics.holds(self.bytes());
    }

    /// Does at once what is otherwise done now and then: throwing out what there is no room for.
    #[cfg(test)]
    pub(super) async fn tidy(&self) {
        self.recent.run_pending_tasks().await;
        self.old.run_pending_tasks().await;
    }

    pub(super) fn bytes(&self) -> u64 {
        self.recent.weighted_size() + self.old.weighted_size()
    }

    /// Compares ids only with each other, so no clock is needed. Once old, an object stays old.
    fn is_recent(&self, object: ObjectId) -> bool {
        let made = made_at(object);
        let youngest = self.youngest.fetch_max(made, Ordering::Relaxed).max(made);
        made + RECENT_MILLIS >= youngest
    }
}

/// The first 48 bits of a UUID v7: milliseconds since 1970.
fn made_at(object: ObjectId) -> u64 {
    object.0[..6].iter().fold(0, |millis, byte| millis << 8 | u64::from(*byte))
}

/// The least recently used goes first. A policy that also asks how often (moka's default) would turn away new pages while old favourites last, and a
/// reader who needs a page for several fetches would load it for each of them.
fn tier(capacity: u64) -> Tier {
    Cache::builder()
        .max_capacity(capacity)
        .weigher(|_, pieces: &Arc<Pieces>| u32::try_from(pieces.weight()).unwrap_or(u32::MAX))
        .eviction_policy(EvictionPolicy::lru())
        .build()
}

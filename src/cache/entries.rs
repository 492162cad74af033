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
/// Of the capacity, this part is for what a peer holds as well: one in eight, half of it for old objects.
const BORROWED_SHARE: u64 = 8;
/// An object this much older than the youngest one seen counts as old, in milliseconds. Ids carry the time at which they were made.
const RECENT_MILLIS: u64 = 5 * 60 * 1_000;

/// What of an object an entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Part {
    Whole,
    Page(Page),
}

/// How old an object is beside the youngest one seen. What readers of the log's end want has budgets of its own, so that readers of history do not
/// slow them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    Recent,
    Old,
}

/// Whose it is to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeper {
    /// This agent: it uploaded the object, or owns the chunk, or has no peers.
    Mine,
    /// A peer.
    Borrowed,
}

type Tier = Cache<(ObjectId, Part), Arc<Pieces>>;

#[derive(Debug)]
struct Tiers {
    recent: Tier,
    old: Tier,
}

impl Tiers {
    fn new(recent: u64, old: u64) -> Tiers {
        Tiers { recent: tier(recent), old: tier(old) }
    }

    fn of(&self, age: Age) -> &Tier {
        match age {
            Age::Recent => &self.recent,
            Age::Old => &self.old,
        }
    }
}

/// What is in memory.
#[derive(Debug)]
pub(super) struct Entries {
    mine: Tiers,
    /// `None` without peers.
    borrowed: Option<Tiers>,
    /// When the youngest object held was made, by its id.
    youngest: AtomicU64,
    pub(super) metrics: CacheMetrics,
}

impl Entries {
    pub(super) fn new(capacity: u64, has_peers: bool, metrics: CacheMetrics) -> Entries {
        let half = if has_peers { capacity / BORROWED_SHARE / 2 } else { 0 };
        let old = capacity / OLD_SHARE;
        Entries {
            mine: Tiers::new(capacity - old - 2 * half, old),
            borrowed: has_peers.then(|| Tiers::new(half, half)),
            youngest: AtomicU64::new(0),
            metrics,
        }
    }

    pub(super) async fn get(&self, object: ObjectId, part: Part) -> Option<Arc<Pieces>> {
        let key = (object, part);
        for tier in self.tiers(object) {
            if let Some(found) = tier.get(&key).await {
                return Some(found);
            }
        }
        None
    }

    pub(super) fn has(&self, object: ObjectId, part: Part) -> bool {
        self.tiers(object).any(|tier| tier.contains_key(&(object, part)))
    }

    /// Where entries of this object can be: what is old may have been recent when it came.
    fn tiers(&self, object: ObjectId) -> impl Iterator<Item = &Tier> {
        let old = self.age(object) == Age::Old;
        let both = std::iter::once(&self.mine).chain(&self.borrowed);
        both.flat_map(move |tiers| std::iter::once(&tiers.recent).chain(old.then_some(&tiers.old)))
    }

    pub(super) async fn insert(&self, object: ObjectId, part: Part, pieces: Arc<Pieces>, keeper: Keeper) {
        self.youngest.fetch_max(object.made_at(), Ordering::Relaxed);
        let tiers = match (&self.borrowed, keeper) {
            (Some(borrowed), Keeper::Borrowed) => borrowed,
            (None, Keeper::Borrowed) | (_, Keeper::Mine) => &self.mine,
        };
        tiers.of(self.age(object)).insert((object, part), pieces).await;
        self.metrics.holds(self.bytes());
    }

    /// Bytes that are kept of this object and those of its age at most, when they are this agent's to keep.
    pub(super) fn capacity(&self, object: ObjectId) -> u64 {
        self.mine.of(self.age(object)).policy().max_capacity().unwrap_or(u64::MAX)
    }

    /// Throws a page out wherever it is.
    pub(super) async fn forget(&self, object: ObjectId, page: Page) {
        for tier in self.all() {
            tier.invalidate(&(object, Part::Page(page))).await;
        }
    }

    /// Does at once what is otherwise done now and then: throwing out what there is no room for.
    #[cfg(test)]
    pub(super) async fn tidy(&self) {
        for tier in self.all() {
            tier.run_pending_tasks().await;
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.all().map(Cache::weighted_size).sum()
    }

    /// Of which [`Keeper::Borrowed`].
    #[cfg(test)]
    pub(super) fn borrowed_bytes(&self) -> u64 {
        self.borrowed.iter().map(|tiers| tiers.recent.weighted_size() + tiers.old.weighted_size()).sum()
    }

    fn all(&self) -> impl Iterator<Item = &Tier> {
        std::iter::once(&self.mine).chain(&self.borrowed).flat_map(|tiers| [&tiers.recent, &tiers.old])
    }

    /// Compares ids only with each other, so no clock is needed. Once old, an object stays old.
    pub(super) fn age(&self, object: ObjectId) -> Age {
        if object.made_at() + RECENT_MILLIS >= self.youngest.load(Ordering::Relaxed) { Age::Recent } else { Age::Old }
    }
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

//! Loading pages: each at most once at a time, neighbours together, all within limits; from a peer that holds or owns them, else from the store.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::entries::{Age, Entries, Keeper, Part};
use super::lanes::Lanes;
use super::pages::{Page, PageSize, chunk_runs, runs, widened};
use super::peer::{Peers, Wish};
use super::pieces::Pieces;
use crate::store::{ObjectStore, StoreError};
use crate::tasks::Tasks;
use crate::types::{ByteRange, ObjectId};

type Loaded = Result<Arc<Pieces>, StoreError>;
/// What waits for another agent's store is apart: if a peer's request waited for that, and there too, two agents that each take the other for the owner would
/// wait for each other.
type Key = (ObjectId, Page, bool);

/// How much is loaded at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoadLimits {
    pub(super) pages_per_get: u64,
    pub(super) gets_at_once: usize,
    pub(super) prefetched_pages: usize,
}

/// What pages are loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A reader waits for them: from a peer, if there is one to ask, else from the store.
    Read,
    /// The same, but nobody waits yet, so that it must not be in the way of those who do.
    Prefetch,
    /// Only the store counts: a peer wants them from this agent, or what a peer said of them was not good enough.
    StoreOnly,
}

/// Where a page comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Store,
    /// This agent owns the chunk: its maker's memory, else the store.
    Own,
    /// A peer owns it: its maker's memory, else its owner, else the store.
    Owner,
}

/// Gets pages into memory.
#[derive(Debug)]
pub(super) struct Loader {
    store: Arc<dyn ObjectStore>,
    peers: Option<Peers>,
    entries: Arc<Entries>,
    page_size: PageSize,
    /// Also the pages of a chunk: what is owned, and loaded by its owner, as a whole.
    pages_per_get: u64,
    gets: Lanes,
    prefetches: Arc<Semaphore>,
    tasks: Tasks,
    /// The pages being loaded, and where to wait for them.
    loading: Mutex<HashMap<Key, watch::Receiver<Option<Loaded>>>>,
}

/// A page that is on its way.
#[derive(Debug)]
pub(super) struct Awaited(watch::Receiver<Option<Loaded>>);

impl Awaited {
    pub(super) async fn loaded(mut self) -> Loaded {
        let given_up = || StoreError::Unavailable("the load of a page was given up".to_owned());
        let loaded = self.0.wait_for(Option::is_some).await.map_err(|_| given_up())?;
        loaded.clone().unwrap_or_else(|| Err(given_up()))
    }
}

impl Loader {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        peers: Option<Peers>,
        entries: Arc<Entries>,
        page_size: PageSize,
        limits: LoadLimits,
        tasks: Tasks,
    ) -> Loader {
        Loader {
            store,
            peers,
            entries,
            page_size,
            pages_per_get: limits.pages_per_get,
            gets: Lanes::new(limits.gets_at_once),
            prefetches: Arc::new(Semaphore::new(limits.prefetched_pages)),
            tasks,
            loading: Mutex::default(),
        }
    }

    /// Has `pages`, which are in ascending order, loaded unless that is going on already.
    pub(super) fn load(self: &Arc<Self>, object: ObjectId, pages: &[Page], purpose: Purpose) -> Vec<(Page, Awaited)> {
        let (mut awaited, claims) = self.claim(object, &self.routed(object, pages, purpose));
        awaited.retain(|(page, _)| pages.binary_search(page).is_ok());
        self.spawn(object, claims, purpose, None);
        awaited
    }

    /// Has as many of `pages` loaded as the limit allows, for nobody yet.
    pub(super) fn load_in_advance(self: &Arc<Self>, object: ObjectId, mut pages: Vec<Page>) {
        // What is on its way already must not take the room of what is not.
        let loading = self.loading();
        pages.retain(|page| [false, true].iter().all(|of_owner| !loading.contains_key(&(object, *page, *of_owner))));
        drop(loading);
        pages.truncate(self.prefetches.available_permits());
        let Ok(count) = u32::try_from(pages.len()) else { return };
        // None left, or another was faster: a wish is no promise.
        let Ok(permits) = Arc::clone(&self.prefetches).try_acquire_many_owned(count) else { return };
        let (_, claims) = self.claim(object, &self.routed(object, &pages, Purpose::Prefetch));
        self.spawn(object, claims, Purpose::Prefetch, Some(permits));
    }

    pub(super) fn has_peers(&self) -> bool {
        self.peers.is_some()
    }

    pub(super) fn chunk_bytes(&self) -> u64 {
        self.pages_per_get * self.page_size.0.get()
    }

    fn chunk(&self, page: Page) -> u64 {
        page.0 / self.pages_per_get
    }

    fn route(&self, object: ObjectId, page: Page, purpose: Purpose) -> Route {
        match (&self.peers, purpose) {
            (None, _) | (Some(_), Purpose::StoreOnly) => Route::Store,
            (Some(peers), Purpose::Read | Purpose::Prefetch) if peers.owns(object, self.chunk(page)) => Route::Own,
            (Some(_), Purpose::Read | Purpose::Prefetch) => Route::Owner,
        }
    }

    /// `pages` with their routes, and what else is missing of those chunks that this agent loads for the whole rack: each is to cost one request, whoever
    /// wants which of its pages first.
    fn routed(&self, object: ObjectId, pages: &[Page], purpose: Purpose) -> Vec<(Page, Route)> {
        let with_route = |page: &Page| (*page, self.route(object, *page, purpose));
        if self.peers.is_none() {
            return pages.iter().map(with_route).collect();
        }
        let (borrowed, owned): (Vec<Page>, Vec<Page>) = pages.iter().partition(|page| with_route(page).1 == Route::Owner);
        let owned = widened(&owned, self.pages_per_get, |page| !self.entries.has(object, Part::Page(page)));
        let mut routed: Vec<_> = borrowed.iter().chain(&owned).map(with_route).collect();
        routed.sort_unstable_by_key(|(page, _)| *page);
        routed
    }

    fn claim(self: &Arc<Self>, object: ObjectId, pages: &[(Page, Route)]) -> (Vec<(Page, Awaited)>, Vec<Claim>) {
        let (mut awaited, mut claims) = (Vec::with_capacity(pages.len()), Vec::new());
        let mut loading = self.loading();
        for (page, route) in pages {
            let key = (object, *page, *route == Route::Owner);
            let receiver = loading.entry(key).or_insert_with(|| {
                let (sender, receiver) = watch::channel(None);
                claims.push(Claim { loader: Arc::clone(self), key, page: *page, route: *route, sender, open: true });
                receiver
            });
            awaited.push((*page, Awaited(receiver.clone())));
        }
        (awaited, claims)
    }

    fn spawn(self: &Arc<Self>, object: ObjectId, claims: Vec<Claim>, purpose: Purpose, permits: Option<OwnedSemaphorePermit>) {
        if claims.is_empty() {
            return;
        }
        let loader = Arc::clone(self);
        // A task of its own: others may wait for these pages when the reader who wanted them first has gone away.
        self.tasks.spawn("cache load", async move {
            loader.load_claimed(object, claims, purpose).await;
            drop(permits);
        });
    }

    async fn load_claimed(&self, object: ObjectId, claims: Vec<Claim>, purpose: Purpose) {
        let mut open = Vec::with_capacity(claims.len());
        for claim in claims {
            // A load may have ended between the reader's look and the claim.
            match self.entries.get(object, Part::Page(claim.page)).await {
                Some(pieces) => claim.settle(Ok(pieces)),
                None => open.push(claim),
            }
        }
        let pages: Vec<Page> = open.iter().map(|claim| claim.page).collect();
        let runs = if self.peers.is_some() { chunk_runs(&pages, self.pages_per_get) } else { runs(&pages, self.pages_per_get) };
        let mut open = open.into_iter();
        let loads = runs.into_iter().map(|run| {
            let claims: Vec<Claim> = open.by_ref().take((run.end.0 - run.start.0) as usize).collect();
            self.load_run(object, run, claims, purpose)
        });
        join_all(loads.collect::<Vec<_>>()).await;
    }

    /// One request for neighbouring pages, one claim each.
    async fn load_run(&self, object: ObjectId, run: Range<Page>, claims: Vec<Claim>, purpose: Purpose) {
        let range = self.page_size.range(&run);
        // The pages of a chunk have one route; where there are no peers, all have.
        let route = claims.first().map_or(Route::Store, |claim| claim.route);
        let got = self.get(object, self.chunk(run.start), range, route, purpose).await;
        let (mut pages, keeper) = match got {
            Ok((pieces, keeper)) => (self.page_size.cut(&run, &pieces).into_iter(), keeper),
            Err(error) => {
                for claim in claims {
                    claim.settle(Err(error.clone()));
                }
                return;
            }
        };
        for claim in claims {
            let Some(pieces) = pages.next().map(|pieces| Arc::new(Pieces::new(pieces))) else {
                // The object ends before this page.
                claim.settle(Err(StoreError::OutOfRange { object, range }));
                continue;
            };
            // First into memory, then off the list: who finds it in neither place may load it.
            self.entries.insert(object, Part::Page(claim.page), Arc::clone(&pieces), keeper).await;
            claim.settle(Ok(pieces));
        }
    }

    /// The bytes of `range`, which lies in one chunk if there are peers, and whose they are to keep.
    async fn get(
        &self,
        object: ObjectId,
        chunk: u64,
        range: ByteRange,
        route: Route,
        purpose: Purpose,
    ) -> Result<(Vec<Bytes>, Keeper), StoreError> {
        let age = self.entries.age(object);
        let lane = if purpose == Purpose::Prefetch { Age::Old } else { age };
        if let (Some(peers), Route::Own | Route::Owner) = (&self.peers, route) {
            let wish = Wish { object, chunk, range, age, owner_too: route == Route::Owner };
            if let Some(pieces) = peers.borrow(wish, lane).await {
                return Ok((pieces, Keeper::Borrowed));
            }
        }
        let keeper = if route == Route::Owner { Keeper::Borrowed } else { Keeper::Mine };
        let permit = self.gets.enter(lane).await;
        let got = self.store.get_up_to(object, range).await;
        drop(permit);
        self.entries.metrics.loaded();
        got.map(|pieces| (pieces, keeper))
    }

    fn loading(&self) -> MutexGuard<'_, HashMap<Key, watch::Receiver<Option<Loaded>>>> {
        self.loading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duty to load a page, on the list until it is settled or dropped.
#[derive(Debug)]
struct Claim {
    loader: Arc<Loader>,
    key: Key,
    page: Page,
    route: Route,
    sender: watch::Sender<Option<Loaded>>,
    open: bool,
}

impl Claim {
    fn settle(mut self, loaded: Loaded) {
        self.leave_the_list();
        self.sender.send_replace(Some(loaded));
    }

    fn leave_the_list(&mut self) {
        if std::mem::take(&mut self.open) {
            self.loader.loading().remove(&self.key);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.leave_the_list();
    }
}

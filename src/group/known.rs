//! What this agent knows of each group it has to do with: the last state it saw, who waits for the next one, and events on their way to it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::GroupError;
use super::consumer::Catalog;
use super::event::Event;
use super::state::GroupState;
use super::turns::Told;
use crate::metastore::GroupVersion;
use crate::types::{GroupId, Timestamp};

/// How long a group is remembered that nobody asks for.
const KEEP: Duration = Duration::from_mins(1);

/// A state that was loaded or stored.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) version: GroupVersion,
    pub(super) state: Arc<GroupState>,
    /// The metastore's time when it was seen, and ours.
    now: Timestamp,
    at: Instant,
}

impl Seen {
    pub(super) fn new(version: GroupVersion, state: GroupState, now: Timestamp, at: Instant) -> Self {
        Seen { version, state: Arc::new(state), now, at }
    }

    /// What the metastore's clock shows now, or a little less.
    pub(super) fn now(&self) -> Timestamp {
        self.now.plus(self.at.elapsed())
    }

    /// When it was seen, by our time.
    pub(super) fn at(&self) -> Instant {
        self.at
    }

    /// When the metastore's clock will show `then`.
    pub(super) fn moment(&self, then: Timestamp) -> Instant {
        let millis = u64::try_from(then.0.saturating_sub(self.now.0)).unwrap_or(0);
        self.at + Duration::from_millis(millis)
    }
}

/// An event that waits for its turn, or a wish to see the present state.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) event: Option<Event>,
    pub(super) answer: oneshot::Sender<Result<(Option<Told>, Seen), GroupError>>,
}

/// One group.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) group: GroupId,
    queue: Mutex<Queue>,
    /// `None`: nothing is known, or it is out of date.
    seen: watch::Sender<Option<Seen>>,
    used_at: Mutex<Instant>,
    /// The topics that a state was compared with, without effect.
    fits: Mutex<Option<(GroupVersion, Arc<Catalog>)>>,
}

#[derive(Debug, Default)]
struct Queue {
    asked: VecDeque<Asked>,
    /// Somebody takes from it.
    driven: bool,
}

impl Entry {
    fn new(group: GroupId) -> Self {
        Entry {
            group,
            queue: Mutex::default(),
            seen: watch::Sender::new(None),
            used_at: Mutex::new(Instant::now()),
            fits: Mutex::default(),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used_at(&self) -> MutexGuard<'_, Instant> {
        self.used_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if whoever asks has to see to it that the queue is driven.
    pub(super) fn ask(&self, asked: Asked) -> bool {
        let mut queue = self.queue();
        queue.asked.push_back(asked);
        !std::mem::replace(&mut queue.driven, true)
    }

    /// Up to `limit` at a time; `None` ends the driving.
    pub(super) fn take(&self, limit: usize) -> Option<Vec<Asked>> {
        let mut queue = self.queue();
        let count = queue.asked.len().min(limit);
        queue.driven = count > 0;
        (count > 0).then(|| queue.asked.drain(..count).collect())
    }

    /// Whether the state of this version was compared with these topics, and nothing came of it.
    pub(super) fn fits(&self, version: GroupVersion, catalog: &Arc<Catalog>) -> bool {
        let fits = self.fits.lock().unwrap_or_else(PoisonError::into_inner);
        fits.as_ref().is_some_and(|(known, with)| *known == version && Arc::ptr_eq(with, catalog))
    }

    pub(super) fn fit(&self, version: GroupVersion, catalog: Arc<Catalog>) {
        *self.fits.lock().unwrap_or_else(PoisonError::into_inner) = Some((version, catalog));
    }

    pub(super) fn seen(&self) -> Option<Seen> {
        self.seen.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Option<Seen>> {
        self.seen.subscribe()
    }

    pub(super) fn has_waiters(&self) -> bool {
        self.seen.receiver_count() > 0
    }

    /// Knowledge never goes back; but what was seen of a group that is gone ends with it.
    pub(super) fn learn(&self, new: Seen) {
        self.seen.send_if_modified(|seen| {
            let newer = seen.as_ref().is_none_or(|old| new.version > old.version || new.version == GroupVersion::NONE);
            let same = seen.as_ref().is_some_and(|old| new.version == old.version);
            if newer || same {
                *seen = Some(new);
            }
            newer && !same
        });
    }

    /// Another version is there than was seen. True if somebody waits for it.
    pub(super) fn outdate(&self, version: GroupVersion) -> bool {
        let old = self.seen().is_some_and(|seen| seen.version < version || version == GroupVersion::NONE);
        if old {
            self.seen.send_if_modified(|seen| {
                *seen = None;
                false
            });
        }
        old && self.has_waiters()
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Table(Mutex<BTreeMap<GroupId, Arc<Entry>>>);

impl Table {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<GroupId, Arc<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entry of a group, made if it is not there.
    pub(super) fn entry(&self, group: &GroupId) -> Arc<Entry> {
        let mut entries = self.entries();
        let entry = entries.entry(group.clone()).or_insert_with(|| Arc::new(Entry::new(group.clone())));
        *entry.used_at() = Instant::now();
        Arc::clone(entry)
    }

    pub(super) fn find(&self, group: &GroupId) -> Option<Arc<Entry>> {
        self.entries().get(group).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.entries().len()
    }

    /// Everything that is known, and by which version. Forgets what nobody uses.
    pub(super) fn versions(&self) -> Vec<(GroupId, GroupVersion)> {
        let mut entries = self.entries();
        entries.retain(|_, entry| Arc::strong_count(entry) > 1 || entry.used_at().elapsed() < KEEP);
        entries.values().filter_map(|entry| Some((entry.group.clone(), entry.seen()?.version))).collect()
    }

    /// Groups somebody waits for.
    pub(super) fn waited_for(&self) -> Vec<Arc<Entry>> {
        self.entries().values().filter(|entry| entry.has_waiters()).cloned().collect()
    }

    /// Everything may be out of date.
    pub(super) fn doubt(&self) {
        for entry in self.entries().values() {
            entry.seen.send_if_modified(|seen| {
                *seen = None;
                false
            });
        }
    }
}

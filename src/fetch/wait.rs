//! The ends of logs as this agent knows them, and who waits for them to move.
//!
//! Rounds, announcements and answers of the metastore are published here; a fetch at the end of its logs sleeps until enough bytes
//! have come, counted by [`Head::bytes`] without asking anybody. Announcements can be lost, so a loop in the background
//! ([`Watermarks::spawn_refresh`]) asks for the logs that are waited for and were not heard of for a while, all in one statement.
//!
//! Invariants: knowledge never goes back; a waiter is woken at most once and only for its own logs; a log that nobody waits for and nobody
//! has used for [`KEEP`] is forgotten; who waits is woken in an order that does not depend on chance.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::metastore::{Log, MetaError};
use crate::tasks::{Nudge, Progress, Tasks};
use crate::types::{Head, TopicId, TopicPartition};

/// How long a log is remembered that nobody waits for.
const KEEP: Duration = Duration::from_mins(1);
/// Logs asked for in one statement of a refresh.
const REFRESH_AT_ONCE: usize = 5_000;

/// Told of each look at the metastore, with the number of records it found that had not been announced.
pub type Looked = Arc<dyn Fn(u64) + Send + Sync>;

/// A board of heads.
#[derive(Debug)]
pub struct Watermarks {
    board: Mutex<Board>,
    /// Wakes the refresh before its time.
    doubt: Nudge,
}

#[derive(Debug)]
struct Board {
    logs: BTreeMap<TopicPartition, Entry>,
    waiters: BTreeMap<u64, Waiter>,
    next_waiter: u64,
    /// What was learned before this may be old.
    doubted_at: Option<Instant>,
    swept_at: Instant,
    stopping: bool,
}

#[derive(Debug)]
struct Entry {
    head: Head,
    learned_at: Instant,
    used_at: Instant,
    waiters: BTreeSet<u64>,
}

#[derive(Debug)]
struct Waiter {
    /// Bytes that must still come.
    missing: u64,
    wake: Arc<Notify>,
}

/// A registration for news of some logs; ends when dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    watermarks: Arc<Watermarks>,
    id: u64,
    logs: Vec<TopicPartition>,
    wake: Arc<Notify>,
}

impl Default for Watermarks {
    fn default() -> Self {
        Self::new()
    }
}

impl Watermarks {
    #[must_use]
    pub fn new() -> Self {
        let board = Board {
            logs: BTreeMap::new(),
            waiters: BTreeMap::new(),
            next_waiter: 0,
            doubted_at: None,
            swept_at: Instant::now(),
            stopping: false,
        };
        Watermarks { board: Mutex::new(board), doubt: Nudge::default() }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of heads that were committed. Old news change nothing, whatever the order in which they come.
    pub fn publish(&self, heads: &[(TopicPartition, Head)]) {
        self.learn(heads, Instant::now());
    }

    /// Tells of heads that somebody began to ask for at `asked_at`.
    pub(super) fn learn(&self, heads: &[(TopicPartition, Head)], asked_at: Instant) {
        let mut board = self.board();
        for (log, head) in heads {
            board.learn(*log, head, asked_at);
        }
        board.sweep(Instant::now());
    }

    /// Something was committed somewhere: what is known may be old, and those who wait are looked after at once.
    pub fn changed_unknown(&self) {
        self.board().doubted_at = Some(Instant::now());
        self.doubt.nudge();
    }

    /// The topic was deleted: its logs are forgotten and whoever waits for them looks again.
    pub fn forget(&self, topic: TopicId) {
        self.board().forget(|log| log.topic == topic);
    }

    /// The newest head anybody told of; it may be old.
    #[must_use]
    pub fn known(&self, log: TopicPartition) -> Option<Head> {
        self.board().logs.get(&log).map(|entry| entry.head)
    }

    /// The head of `log`, if it was learned at most `age` ago and nothing has cast doubt on it since.
    pub(super) fn fresh(&self, log: TopicPartition, age: Duration) -> Option<Head> {
        let now = Instant::now();
        let mut board = self.board();
        let doubted_at = board.doubted_at;
        let entry = board.logs.get_mut(&log)?;
        entry.used_at = now;
        entry.is_fresh(now, age, doubted_at).then_some(entry.head)
    }

    /// Ends all waiting, now and from now on: for the agent's shutdown.
    pub fn stop_waiting(&self) {
        let mut board = self.board();
        board.stopping = true;
        for waiter in board.waiters.values() {
            waiter.wake.notify_one();
        }
    }

    /// Registers for `logs`, each with the head its caller has seen. The wait is over when `missing` bytes have come to them all together
    /// since then, one of them was forgotten, or waiting has been stopped.
    pub(super) fn wait_for(self: &Arc<Self>, logs: &[(TopicPartition, Head)], missing: u64) -> Waiting {
        let wake = Arc::new(Notify::new());
        let id = self.board().register(logs, missing, &wake);
        Waiting { watermarks: Arc::clone(self), id, logs: logs.iter().map(|(log, _)| *log).collect(), wake }
    }

    /// True after [`Watermarks::stop_waiting`].
    pub(super) fn is_stopping(&self) -> bool {
        self.board().stopping
    }

    /// Keeps what is waited for fresh until `tasks` are stopped: asks `metastore` every `period`, and at once after
    /// [`Watermarks::changed_unknown`]. After each look `looked` is told how many records there were that nobody had announced. To be called once in
    /// every agent.
    pub fn spawn_refresh(self: &Arc<Self>, tasks: &Tasks, metastore: &Arc<dyn Log>, period: Duration, looked: Looked) {
        let (watermarks, metastore) = (Arc::clone(self), Arc::clone(metastore));
        tasks.spawn_loop("watermarks", period, self.doubt.clone(), move || {
            let (watermarks, metastore, looked) = (Arc::clone(&watermarks), Arc::clone(&metastore), Arc::clone(&looked));
            async move {
                match watermarks.refresh(&*metastore, period / 2).await {
                    Ok(unheard) => looked(unheard),
                    Err(error) => tracing::warn!(%error, "could not look for new records; those who wait for them wait on"),
                }
                Progress::Idle
            }
        });
    }

    /// Asks for every log that is waited for and was not heard of for `age`; how many records there were that nobody had told of.
    async fn refresh(&self, metastore: &dyn Log, age: Duration) -> Result<u64, MetaError> {
        let asked_at = Instant::now();
        let stale = self.board().stale(asked_at, age);
        let mut unheard = 0;
        for logs in stale.chunks(REFRESH_AT_ONCE) {
            let heads = metastore.heads(logs).await?;
            let found: Vec<_> = logs.iter().zip(&heads).filter_map(|(log, head)| head.map(|head| (*log, head))).collect();
            let gone: BTreeSet<_> = logs.iter().zip(&heads).filter(|(_, head)| head.is_none()).map(|(log, _)| *log).collect();
            unheard += self.board().unheard(&found);
            self.learn(&found, asked_at);
            self.board().forget(|log| gone.contains(log));
        }
        Ok(unheard)
    }
}

impl Board {
    /// Records below these heads and above what is known.
    fn unheard(&self, heads: &[(TopicPartition, Head)]) -> u64 {
        let records = |(log, head): &(TopicPartition, Head)| {
            let known = self.logs.get(log)?.head.high_watermark.0;
            u64::try_from(head.high_watermark.0.saturating_sub(known)).ok()
        };
        heads.iter().filter_map(records).sum()
    }

    fn learn(&mut self, log: TopicPartition, head: &Head, at: Instant) {
        let entry = self.logs.entry(log).or_insert_with(|| Entry::new(*head, at));
        let came = head.bytes.saturating_sub(entry.head.bytes);
        entry.learned_at = entry.learned_at.max(at);
        entry.head = newest(&entry.head, head);
        for id in &entry.waiters {
            if let Some(waiter) = self.waiters.get_mut(id) {
                waiter.come(came);
            }
        }
    }

    fn register(&mut self, logs: &[(TopicPartition, Head)], missing: u64, wake: &Arc<Notify>) -> u64 {
        let now = Instant::now();
        let id = self.next_waiter;
        self.next_waiter += 1;
        let mut waiter = Waiter { missing, wake: Arc::clone(wake) };
        for (log, seen) in logs {
            let entry = self.logs.entry(*log).or_insert_with(|| Entry::new(*seen, now));
            entry.used_at = now;
            // A log that is asked for twice is counted once.
            if entry.waiters.insert(id) {
                waiter.come(entry.head.bytes.saturating_sub(seen.bytes));
            }
        }
        if self.stopping {
            wake.notify_one();
        }
        self.waiters.insert(id, waiter);
        id
    }

    fn unregister(&mut self, id: u64, logs: &[TopicPartition]) {
        let now = Instant::now();
        self.waiters.remove(&id);
        for log in logs {
            if let Some(entry) = self.logs.get_mut(log) {
                entry.waiters.remove(&id);
                entry.used_at = now;
            }
        }
    }

    fn forget(&mut self, which: impl Fn(&TopicPartition) -> bool) {
        let waiters = &self.waiters;
        self.logs.retain(|log, entry| {
            let keep = !which(log);
            if !keep {
                entry.waiters.iter().filter_map(|id| waiters.get(id)).for_each(|waiter| waiter.wake.notify_one());
            }
            keep
        });
    }

    fn stale(&self, now: Instant, age: Duration) -> Vec<TopicPartition> {
        let watched = self.logs.iter().filter(|(_, entry)| !entry.waiters.is_empty());
        watched.filter(|(_, entry)| !entry.is_fresh(now, age, self.doubted_at)).map(|(log, _)| *log).collect()
    }

    /// Drops what nobody uses, now and then.
    fn sweep(&mut self, now: Instant) {
        if now.duration_since(self.swept_at) >= KEEP {
            self.swept_at = now;
            self.logs.retain(|_, entry| !entry.waiters.is_empty() || now.duration_since(entry.used_at) < KEEP);
        }
    }
}

impl Entry {
    fn new(head: Head, now: Instant) -> Entry {
        Entry { head, learned_at: now, used_at: now, waiters: BTreeSet::new() }
    }

    fn is_fresh(&self, now: Instant, age: Duration, doubted_at: Option<Instant>) -> bool {
        now.duration_since(self.learned_at) < age && doubted_at.is_none_or(|doubted_at| self.learned_at > doubted_at)
    }
}

impl Waiter {
    fn come(&mut self, bytes: u64) {
        let was = self.missing;
        self.missing = was.saturating_sub(bytes);
        if was > 0 && self.missing == 0 {
            self.wake.notify_one();
        }
    }
}

impl Waiting {
    /// Until the wait is over or `deadline` has come. Cancel safe.
    pub(super) async fn until(&self, deadline: Instant) {
        // Both outcomes are the same to the caller, who looks at what there is.
        let _ = tokio::time::timeout_at(deadline, self.wake.notified()).await;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.watermarks.board().unregister(self.id, &self.logs);
    }
}

/// The later of each end.
fn newest(a: &Head, b: &Head) -> Head {
    Head {
        log_start: a.log_start.max(b.log_start),
        high_watermark: a.high_watermark.max(b.high_watermark),
        last_stable: a.last_stable.max(b.last_stable),
        max_timestamp: a.max_timestamp.max(b.max_timestamp),
        bytes: a.bytes.max(b.bytes),
    }
}

#[cfg(test)]
#[path = "wait_tests.rs"]
mod tests;

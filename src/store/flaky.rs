//! A store that fails on purpose, in front of any other: by chance, from a seed, or by switches that a test throws.
//!
//! A failure comes before the deed or after it: "it happened, but you got an error" is the case that hurts. A hang never answers; tokio's time is what ends
//! it. The same seed and the same calls in the same order give the same failures.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Listed, ObjectBody, ObjectStore, StoreError};
use crate::clock::Ids;
use crate::types::{ByteRange, ObjectId};

/// How often a call meets with what, in thousandths.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chances {
    /// It fails and did not happen.
    pub error_before: u64,
    /// It fails and did happen.
    pub error_after: u64,
    /// It is late, by up to `longest_delay`.
    pub delay: u64,
    pub longest_delay: Duration,
    /// It never answers and did not happen.
    pub hang: u64,
}

/// What is to happen to the next calls of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    ErrorBefore,
    ErrorAfter,
    Hang,
}

/// A store in front of another.
#[derive(Debug)]
pub struct FlakyStore {
    inner: Arc<dyn ObjectStore>,
    ids: Arc<dyn Ids>,
    chances: Mutex<Chances>,
    down: AtomicBool,
    full: AtomicBool,
    next_puts: Mutex<Script>,
    next_gets: Mutex<Script>,
    puts: AtomicU64,
    gets: AtomicU64,
}

/// The same mishap for the next so many calls.
#[derive(Debug, Clone, Copy, Default)]
struct Script {
    calls: u64,
    mishap: Option<Mishap>,
}

impl FlakyStore {
    /// Without any faults yet. `ids` gives the chance: a seeded one can be repeated.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>, ids: Arc<dyn Ids>) -> Self {
        FlakyStore {
            inner,
            ids,
            chances: Mutex::default(),
            down: AtomicBool::new(false),
            full: AtomicBool::new(false),
            next_puts: Mutex::default(),
            next_gets: Mutex::default(),
            puts: AtomicU64::new(0),
            gets: AtomicU64::new(0),
        }
    }

    pub fn set_chances(&self, chances: Chances) {
        *self.chances.lock().unwrap_or_else(PoisonError::into_inner) = chances;
    }

    /// Every call fails from now on.
    pub fn take_down(&self) {
        self.down.store(true, Ordering::Relaxed);
    }

    pub fn bring_up(&self) {
        self.down.store(false, Ordering::Relaxed);
    }

    /// Puts fail for want of room from now on.
    pub fn fill(&self) {
        self.full.store(true, Ordering::Relaxed);
    }

    pub fn make_room(&self) {
        self.full.store(false, Ordering::Relaxed);
    }

    pub fn next_puts(&self, calls: u64, mishap: Mishap) {
        *self.next_puts.lock().unwrap_or_else(PoisonError::into_inner) = Script { calls, mishap: Some(mishap) };
    }

    pub fn next_gets(&self, calls: u64, mishap: Mishap) {
        *self.next_gets.lock().unwrap_or_else(PoisonError::into_inner) = Script { calls, mishap: Some(mishap) };
    }

    /// Puts seen, also those that failed.
    #[must_use]
    pub fn puts(&self) -> u64 {
        self.puts.load(Ordering::Relaxed)
    }

    /// Gets seen, also those that failed.
    #[must_use]
    pub fn gets(&self) -> u64 {
        self.gets.load(Ordering::Relaxed)
    }

    fn chance(&self, thousandths: u64) -> bool {
        thousandths > 0 && self.ids.below(1_000) < thousandths
    }

    fn scripted(script: &Mutex<Script>) -> Option<Mishap> {
        let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
        script.calls = script.calls.checked_sub(1)?;
        script.mishap
    }

    /// What happens to a call, and how late it is. Draws the same number of times whatever comes out.
    fn draw(&self) -> (Option<Mishap>, Duration) {
        let chances = *self.chances.lock().unwrap_or_else(PoisonError::into_inner);
        let late = self.chance(chances.delay);
        let before = self.chance(chances.error_before);
        let after = self.chance(chances.error_after);
        let hang = self.chance(chances.hang);
        let longest = u64::try_from(chances.longest_delay.as_millis()).unwrap_or(u64::MAX);
        let delay = if late { Duration::from_millis(self.ids.below(longest)) } else { Duration::ZERO };
        let mishap = match (hang, before, after) {
            (true, _, _) => Some(Mishap::Hang),
            (false, true, _) => Some(Mishap::ErrorBefore),
            (false, false, true) => Some(Mishap::ErrorAfter),
            (false, false, false) => None,
        };
        (mishap, delay)
    }

    async fn around<T>(&self, scripted: Option<Mishap>, deed: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        let (drawn, delay) = self.draw();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if self.down.load(Ordering::Relaxed) {
            return Err(on_purpose("down"));
        }
        match scripted.or(drawn) {
            None => deed.await,
            Some(Mishap::ErrorBefore) => Err(on_purpose("it did not happen")),
            Some(Mishap::ErrorAfter) => {
                deed.await?;
                Err(on_purpose("it happened"))
            }
            Some(Mishap::Hang) => std::future::pending().await,
        }
    }
}

fn on_purpose(what: &str) -> StoreError {
    StoreError::Unavailable(format!("on purpose: {what}"))
}

#[async_trait]
impl ObjectStore for FlakyStore {
    async fn put(&self, object: ObjectId, body: ObjectBody) -> Result<(), StoreError> {
        self.puts.fetch_add(1, Ordering::Relaxed);
        if self.full.load(Ordering::Relaxed) {
            return Err(StoreError::Full("on purpose".to_owned()));
        }
        self.around(Self::scripted(&self.next_puts), self.inner.put(object, body)).await
    }

    async fn get_up_to(&self, object: ObjectId, range: ByteRange) -> Result<Vec<Bytes>, StoreError> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        self.around(Self::scripted(&self.next_gets), self.inner.get_up_to(object, range)).await
    }

    async fn delete(&self, objects: &[ObjectId]) -> Result<(), StoreError> {
        self.around(None, self.inner.delete(objects)).await
    }

    async fn list(&self, after: Option<ObjectId>, limit: usize) -> Result<Vec<Listed>, StoreError> {
        self.around(None, self.inner.list(after, limit)).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.around(None, self.inner.check()).await
    }

    fn describe(&self) -> String {
        format!("flaky {}", self.inner.describe())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::clock::{RandomIds, SystemClock};
    use crate::store::memory::MemoryStore;

    fn flaky(seed: u64) -> FlakyStore {
        FlakyStore::new(Arc::new(MemoryStore::new()), Arc::new(RandomIds::seeded(SystemClock, seed)))
    }

    fn body() -> ObjectBody {
        ObjectBody::new(vec![Bytes::from_static(b"abc")])
    }

    const ALL: ByteRange = ByteRange { start: 0, len: 3 };

    #[tokio::test]
    async fn an_error_after_the_deed_leaves_it_done_and_one_before_does_not() {
        let store = flaky(1);
        let (first, second) = (ObjectId([1; 16]), ObjectId([2; 16]));
        store.next_puts(1, Mishap::ErrorBefore);
        assert!(matches!(store.put(first, body()).await, Err(StoreError::Unavailable(_))));
        assert!(matches!(store.get_range(first, ALL).await, Err(StoreError::NotFound(_))));
        store.next_puts(1, Mishap::ErrorAfter);
        assert!(matches!(store.put(second, body()).await, Err(StoreError::Unavailable(_))));
        assert!(store.get_range(second, ALL).await.is_ok());
        store.put(first, body()).await.expect("the script is over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hang_ends_only_by_the_clock() {
        let store = flaky(1);
        store.next_puts(1, Mishap::Hang);
        assert!(timeout(Duration::from_hours(1), store.put(ObjectId([1; 16]), body())).await.is_err());
        store.put(ObjectId([1; 16]), body()).await.expect("the script is over");
    }

    #[tokio::test]
    async fn switches_stay_until_they_are_thrown_back() {
        let store = flaky(1);
        store.fill();
        assert!(matches!(store.put(ObjectId([1; 16]), body()).await, Err(StoreError::Full(_))));
        store.make_room();
        store.put(ObjectId([1; 16]), body()).await.expect("room");
        store.take_down();
        assert!(store.check().await.is_err() && store.list(None, 1).await.is_err());
        store.bring_up();
        store.check().await.expect("up");
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_seed_fails_the_same_calls() {
        let chances =
            Chances { error_before: 200, error_after: 200, delay: 300, longest_delay: Duration::from_secs(1), ..Chances::default() };
        let mut runs = Vec::new();
        for _ in 0..2 {
            let store = flaky(7);
            store.set_chances(chances);
            let mut run = Vec::new();
            for id in 0..50u8 {
                run.push(store.put(ObjectId([id; 16]), body()).await.is_ok());
            }
            runs.push(run);
        }
        assert_eq!(runs[0], runs[1]);
        assert!(runs[0].contains(&true) && runs[0].contains(&false));
    }
}

//! A value that is asked for at most once at a time and kept for a while.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

/// One asking and its answer; everybody who wants it meanwhile waits for the same.
#[derive(Debug)]
pub(super) struct Slot<T> {
    asked_at: Instant,
    answer: OnceCell<T>,
}

impl<T: Clone> Slot<T> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Slot { asked_at: Instant::now(), answer: OnceCell::new() })
    }

    pub(super) fn is_fresh(&self, keep: Duration) -> bool {
        self.asked_at.elapsed() < keep
    }

    /// The answer; the first to come asks. If it is dropped meanwhile, the next one asks again.
    pub(super) async fn get_or_ask(&self, ask: impl Future<Output = T>) -> T {
        self.answer.get_or_init(|| ask).await.clone()
    }
}

/// One value, asked for again when it is older than `keep`.
#[derive(Debug)]
pub(super) struct Fresh<T> {
    keep: Duration,
    slot: Mutex<Option<Arc<Slot<T>>>>,
}

impl<T: Clone> Fresh<T> {
    pub(super) fn new(keep: Duration) -> Self {
        Fresh { keep, slot: Mutex::new(None) }
    }

    pub(super) async fn get_or_ask(&self, ask: impl Future<Output = T>) -> T {
        self.slot().get_or_ask(ask).await
    }

    fn slot(&self) -> Arc<Slot<T>> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.as_ref().filter(|slot| slot.is_fresh(self.keep)) {
            Some(fresh) => Arc::clone(fresh),
            None => Arc::clone(slot.insert(Slot::new())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_who_come_meanwhile_share_one_asking() {
        let (fresh, asked) = (Fresh::new(Duration::from_secs(1)), AtomicUsize::new(0));
        let ask = || async {
            tokio::task::yield_now().await;
            asked.fetch_add(1, Ordering::Relaxed)
        };
        assert_eq!(tokio::join!(fresh.get_or_ask(ask()), fresh.get_or_ask(ask())), (0, 0));
        assert_eq!(fresh.get_or_ask(ask()).await, 0);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(fresh.get_or_ask(ask()).await, 1);
    }
}

//! How much is on its way at once: a limit for each age, so that readers of history do not hold up readers of the log's end. What
//! nobody waits for yet goes with history.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::entries::Age;

/// Two semaphores.
#[derive(Debug)]
pub(super) struct Lanes {
    recent: Arc<Semaphore>,
    old: Arc<Semaphore>,
}

impl Lanes {
    /// Room for `at_once` in all, at least one of each age.
    pub(super) fn new(at_once: usize) -> Lanes {
        let old = (at_once / 2).max(1);
        let recent = at_once.saturating_sub(old).max(1);
        Lanes { recent: Arc::new(Semaphore::new(recent)), old: Arc::new(Semaphore::new(old)) }
    }

    fn of(&self, age: Age) -> &Arc<Semaphore> {
        match age {
            Age::Recent => &self.recent,
            Age::Old => &self.old,
        }
    }

    /// Waits for room. The semaphores are never closed: there is always a permit in the end.
    pub(super) async fn enter(&self, age: Age) -> Option<OwnedSemaphorePermit> {
        Arc::clone(self.of(age)).acquire_owned().await.ok()
    }

    /// `None` if there is no room now.
    pub(super) fn try_enter(&self, age: Age) -> Option<OwnedSemaphorePermit> {
        Arc::clone(self.of(age)).try_acquire_owned().ok()
    }
}

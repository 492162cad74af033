//! A limit on bytes held in memory, shared by many connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Mutex, Notify, OwnedMutexGuard};

/// Counts bytes that are held and makes takers wait while there are too many.
///
/// Who has begun to read a request must be able to finish it, or half-read requests could fill the budget and wait for each other for
/// ever. So one taker at a time may overdraw: the most ever held is the limit and one request.
#[derive(Debug, Clone)]
pub struct Budget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limit: u64,
    used: AtomicU64,
    freed: Notify,
    overdraft: Arc<Mutex<()>>,
}

/// Bytes charged to a budget; given back on drop.
#[derive(Debug)]
pub struct Charge {
    shared: Arc<Shared>,
    bytes: u64,
    overdraft: Option<OwnedMutexGuard<()>>,
}

impl Budget {
    #[must_use]
    pub fn new(limit: u64) -> Self {
        let shared = Shared { limit, used: AtomicU64::new(0), freed: Notify::new(), overdraft: Arc::new(Mutex::new(())) };
        Budget { shared: Arc::new(shared) }
    }

    /// A charge of nothing, to be grown with [`Charge::add`].
    #[must_use]
    pub fn charge(&self) -> Charge {
        Charge { shared: Arc::clone(&self.shared), bytes: 0, overdraft: None }
    }

    /// Bytes charged now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.shared.used.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn limit(&self) -> u64 {
        self.shared.limit
    }
}

impl Shared {
    fn try_take(&self, bytes: u64) -> bool {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_ok()
    }
}

impl Charge {
    /// Charges `bytes` more, waiting for room. Cancel safe: a charge is made only when this returns.
    pub async fn add(&mut self, bytes: u64) {
        if self.overdraft.is_none() && !self.shared.try_take(bytes) {
            self.wait_for_room(bytes).await;
        } else if self.overdraft.is_some() {
            self.shared.used.fetch_add(bytes, Ordering::AcqRel);
        }
        self.bytes += bytes;
    }

    /// Takes the room when it comes free, or the one overdraft, whichever is first.
    async fn wait_for_room(&mut self, bytes: u64) {
        let overdraft = Arc::clone(&self.shared.overdraft).lock_owned();
        tokio::pin!(overdraft);
        loop {
            let freed = self.shared.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.shared.try_take(bytes) {
                return;
            }
            tokio::select! {
                biased;
                // Only a request that was begun may overdraw: one that holds nothing can wait.
                guard = &mut overdraft, if self.bytes > 0 => {
                    self.shared.used.fetch_add(bytes, Ordering::AcqRel);
                    self.overdraft = Some(guard);
                    return;
                }
                () = freed => {}
            }
        }
    }

    /// Says that the request was read to its end, so that another may overdraw.
    pub fn settle(&mut self) {
        self.overdraft = None;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shared.used.fetch_sub(self.bytes, Ordering::AcqRel);
        self.shared.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(10);

    #[tokio::test(start_paused = true)]
    async fn a_full_budget_makes_newcomers_wait_until_bytes_are_given_back() {
        let budget = Budget::new(100);
        let mut first = budget.charge();
        first.add(100).await;
        let mut second = budget.charge();
        assert!(timeout(SOON, second.add(1)).await.is_err());
        drop(first);
        timeout(SOON, second.add(1)).await.expect("room again");
        assert_eq!(budget.used(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_begun_request_may_overdraw_and_only_one() {
        let budget = Budget::new(100);
        let (mut first, mut second) = (budget.charge(), budget.charge());
        first.add(50).await;
        second.add(50).await;
        timeout(SOON, first.add(60)).await.expect("the overdraft is free");
        assert!(timeout(SOON, second.add(60)).await.is_err());
        first.settle();
        timeout(SOON, second.add(60)).await.expect("the overdraft is free again");
        drop((first, second));
        assert_eq!(budget.used(), 0);
    }
}

//! The one way to run work in the background: named, tracked and cancelled together.
//!
//! Async code here is not cancel safe unless it says so. To stop work, cancel its token and wait; nothing is dropped half-way. A task that
//! panics takes the process down in an orderly way: [`Tasks::failed`] completes, and main shuts the agent down.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Spawns and tracks tasks. Clones share everything.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    kill: CancellationToken,
    failed: Arc<std::sync::OnceLock<&'static str>>,
    failure: CancellationToken,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    #[must_use]
    pub fn new() -> Self {
        Tasks {
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            failed: Arc::default(),
            failure: CancellationToken::new(),
        }
    }

    /// A group of its own below this one: stopping this one stops it too, and a failure there is a failure here.
    #[must_use]
    pub fn group(&self) -> Tasks {
        Tasks {
            tracker: TaskTracker::new(),
            stop: self.stop.child_token(),
            kill: self.kill.clone(),
            failed: Arc::clone(&self.failed),
            failure: self.failure.clone(),
        }
    }

    /// Runs `future` until it ends by itself. A panic in it counts as a failure of the whole.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let tasks = self.clone();
        // Each layer around a future would hold a copy of its size: with thousands of connections, that shows.
        let future = Box::pin(future);
        self.tracker.spawn(async move {
            let guarded = std::panic::AssertUnwindSafe(future).catch_unwind();
            if let Some(Err(_)) = tasks.kill.run_until_cancelled(guarded).await {
                tracing::error!(task = name, "a background task panicked; the agent shuts down");
                tasks.failed.get_or_init(|| name);
                tasks.failure.cancel();
            }
        });
    }

    /// Runs `round` again and again until the group is stopped: at once while it says that there is more to do, after a nudge, and after `period`
    /// at the latest.
    pub fn spawn_loop<F, R>(&self, name: &'static str, period: Duration, nudge: Nudge, mut round: F)
    where
        F: FnMut() -> R + Send + 'static,
        R: Future<Output = Progress> + Send,
    {
        let stop = self.stop.clone();
        self.spawn(name, async move {
            while !stop.is_cancelled() {
                match round().await {
                    Progress::More => tokio::task::yield_now().await,
                    Progress::Idle => wait(&stop, &nudge, period).await,
                    Progress::Retry(after) => wait(&stop, &nudge, after).await,
                }
            }
        });
    }

    /// Cancelled when the group is to stop.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Tells every task of the group to stop and waits until all have, at most `deadline`; false if some have not.
    pub async fn stop(&self, deadline: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok()
    }

    /// Drops every task of this group, of those above and below it, where it stands: what a crash of the process does. For simulations.
    pub fn kill(&self) {
        self.kill.cancel();
    }

    /// Completes when a task has panicked, with its name.
    pub async fn failed(&self) -> &'static str {
        self.failure.cancelled().await;
        self.failed.get().copied().unwrap_or("a task")
    }
}

async fn wait(stop: &CancellationToken, nudge: &Nudge, period: Duration) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = nudge.0.notified() => {}
        () = tokio::time::sleep(period) => {}
    }
}

/// What a round of a loop says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There is more to do: go on at once.
    More,
    /// Nothing to do until the next nudge or period.
    Idle,
    /// Come back after this long, or a nudge.
    Retry(Duration),
}

/// Wakes a loop. A nudge that comes while the loop is working is not lost.
#[derive(Debug, Clone, Default)]
pub struct Nudge(Arc<Notify>);

impl Nudge {
    pub fn nudge(&self) {
        self.0.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_runs_on_nudges_and_stops_when_told() {
        let (tasks, nudge, rounds) = (Tasks::new(), Nudge::default(), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&rounds);
        tasks.spawn_loop("counting", Duration::from_hours(1), nudge.clone(), move || {
            let progress = if counter.fetch_add(1, Ordering::Relaxed) % 2 == 0 { Progress::More } else { Progress::Idle };
            async move { progress }
        });
        while rounds.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
        nudge.nudge();
        while rounds.load(Ordering::Relaxed) < 4 {
            tokio::task::yield_now().await;
        }
        assert!(tasks.stop(Duration::from_secs(1)).await);
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_of_the_whole() {
        let tasks = Tasks::new();
        tasks.group().spawn("doomed", async { panic!("on purpose") });
        assert_eq!(tasks.failed().await, "doomed");
    }
}

//! The loop of rounds.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Clock;
use crate::metastore::{Decide, Log, MetaError, Round, RoundLimits, RoundReport};
use crate::metrics::{JobMetrics, MaterializerMetrics};
use crate::partition::{self, Rules};
use crate::tasks::{Nudge, Progress, Tasks};

/// How rounds are run.
#[derive(Debug, Clone, Copy)]
pub struct MaterializeConfig {
    /// The safety net: how soon the task looks again without having been nudged. While nothing happens it looks less and less often, down to every
    /// [`SLOWEST_LOOK`].
    pub interval: Duration,
    /// Events a round takes at most.
    pub batch_size: usize,
    pub rules: Rules,
}

const JOB: &str = "materialize";
const SLOWEST_LOOK: Duration = Duration::from_secs(5);
/// Another agent is at it, and it may just have missed what this agent waits for.
const AFTER_BUSY: Duration = Duration::from_millis(3);
const AFTER_ERROR: Duration = Duration::from_millis(50);
const AFTER_ERRORS: Duration = Duration::from_secs(2);

/// Told of a round and how long it took.
pub type OnRound = Arc<dyn Fn(&RoundReport, Duration) + Send + Sync>;

/// What the task needs from the others.
#[derive(Clone)]
pub struct MaterializeParts {
    pub log: Arc<dyn Log>,
    pub metrics: MaterializerMetrics,
    pub jobs: JobMetrics,
    pub clock: Arc<dyn Clock>,
    /// Told of every round of this agent, and how long it took, right after its commit.
    pub on_round: OnRound,
    /// Does this agent wait for verdicts?
    pub wanted: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl std::fmt::Debug for MaterializeParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MaterializeParts").field("log", &self.log).finish_non_exhaustive()
    }
}

/// The one rule by which offsets are given.
#[must_use]
pub fn decide_by(rules: Rules) -> Decide {
    Arc::new(move |snapshot| partition::decide(snapshot, &rules))
}

/// One agent's share in materializing.
#[derive(Debug)]
pub struct Materializer {
    config: MaterializeConfig,
    parts: MaterializeParts,
}

impl Materializer {
    /// Starts the loop in `tasks`; `nudge` wakes it.
    pub fn start(config: MaterializeConfig, parts: MaterializeParts, nudge: Nudge, tasks: &Tasks) {
        let decide = decide_by(config.rules);
        let materializer = Arc::new(Materializer { config, parts });
        let pace = Arc::new(std::sync::Mutex::new(Pace::new(config.interval)));
        tasks.spawn_loop(JOB, config.interval, nudge, move || {
            let (materializer, decide, pace) = (Arc::clone(&materializer), Arc::clone(&decide), Arc::clone(&pace));
            async move {
                let outcome = materializer.round(&decide).await;
                pace.lock().unwrap_or_else(std::sync::PoisonError::into_inner).after(outcome)
            }
        });
    }

    async fn round(&self, decide: &Decide) -> Outcome {
        let began = Instant::now();
        let limits = RoundLimits { events: self.config.batch_size };
        let outcome = self.parts.log.run_round(limits, decide).await;
        match outcome {
            Ok(_) => self.parts.jobs.succeeded(JOB, self.parts.clock.now()),
            Err(_) => self.parts.jobs.failed(JOB),
        }
        match outcome {
            Ok(Round::Busy) => {
                self.parts.metrics.busy();
                Outcome::Busy { wanted: (self.parts.wanted)() }
            }
            Ok(Round::Done(report)) => {
                self.parts.metrics.round(report.events, report.segments.len(), report.oldest_event_age, began.elapsed());
                (self.parts.on_round)(&report, began.elapsed());
                Outcome::Done { full: report.more, empty: report.events == 0, next_due: report.next_due }
            }
            Err(error) => {
                self.parts.metrics.failed(began.elapsed());
                Outcome::Failed(error)
            }
        }
    }
}

#[derive(Debug)]
enum Outcome {
    Busy { wanted: bool },
    Done { full: bool, empty: bool, next_due: Option<Duration> },
    Failed(MetaError),
}

/// When the next round comes, given how the last ones ended.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    idle: Duration,
    failures: u32,
}

impl Pace {
    fn new(interval: Duration) -> Self {
        Pace { interval, idle: interval, failures: 0 }
    }

    fn after(&mut self, outcome: Outcome) -> Progress {
        match outcome {
            Outcome::Failed(error) => {
                // An outage is one line when it begins, not one a round.
                if self.failures == 0 {
                    tracing::error!(%error, "a round of the materializer failed; it will be tried until it succeeds");
                }
                self.failures = self.failures.saturating_add(1);
                return Progress::Retry((AFTER_ERROR * self.failures.min(100)).min(AFTER_ERRORS));
            }
            Outcome::Busy { .. } | Outcome::Done { .. } => {
                if self.failures > 0 {
                    tracing::info!(failures = self.failures, "the materializer works again");
                }
                self.failures = 0;
            }
        }
        match outcome {
            Outcome::Done { full: true, .. } => Progress::More,
            Outcome::Busy { wanted: true } => Progress::Retry(AFTER_BUSY),
            Outcome::Busy { wanted: false } | Outcome::Done { empty: true, next_due: None, .. } | Outcome::Failed(_) => {
                self.idle = (self.idle * 2).min(SLOWEST_LOOK).max(self.interval);
                Progress::Retry(self.idle)
            }
            Outcome::Done { next_due, .. } => {
                self.idle = self.interval;
                Progress::Retry(next_due.unwrap_or(self.interval).clamp(Duration::from_millis(1), self.interval))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: Outcome = Outcome::Done { full: false, empty: true, next_due: None };

    #[test]
    fn a_quiet_log_is_looked_at_less_and_less_often() {
        let mut pace = Pace::new(Duration::from_millis(100));
        assert_eq!(pace.after(EMPTY), Progress::Retry(Duration::from_millis(200)));
        for _ in 0..10 {
            pace.after(EMPTY);
        }
        assert_eq!(pace.after(EMPTY), Progress::Retry(SLOWEST_LOOK));
        let worked = Outcome::Done { full: false, empty: false, next_due: None };
        assert_eq!(pace.after(worked), Progress::Retry(Duration::from_millis(100)));
    }

    #[test]
    fn full_rounds_follow_each_other_and_due_times_are_kept() {
        let mut pace = Pace::new(Duration::from_millis(100));
        assert_eq!(pace.after(Outcome::Done { full: true, empty: false, next_due: None }), Progress::More);
        let due = Outcome::Done { full: false, empty: true, next_due: Some(Duration::from_millis(30)) };
        assert_eq!(pace.after(due), Progress::Retry(Duration::from_millis(30)));
        assert_eq!(pace.after(Outcome::Busy { wanted: true }), Progress::Retry(AFTER_BUSY));
    }
}

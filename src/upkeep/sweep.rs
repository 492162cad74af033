//! Sweeps: idle producers, segments of deleted topics and of deleted records, the count of pending events.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::metastore::{Log, LogAdmin, MetaError, Topics};
use crate::metrics::{JobMetrics, MaterializerMetrics};
use crate::tasks::{Nudge, Progress, Tasks};

/// What sweeps need from the others.
#[derive(Debug, Clone)]
pub struct SweepParts {
    pub topics: Arc<dyn Topics>,
    pub log: Arc<dyn Log>,
    pub log_admin: Arc<dyn LogAdmin>,
    pub clock: Arc<dyn Clock>,
    pub jobs: JobMetrics,
    pub materializer: MaterializerMetrics,
}

#[derive(Debug, Clone, Copy)]
pub struct SweepConfig {
    /// A producer that sent nothing for so long is forgotten.
    pub producer_idle: Duration,
    pub period: Duration,
}

/// Rows one statement may remove: short enough for a laptop, long enough to keep up.
const PIECE: usize = 5_000;

/// Somebody may be woken by what it finds.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// Starts all sweeps in `tasks`.
pub fn start_sweeps(config: SweepConfig, parts: SweepParts, tasks: &Tasks) {
    let log = Arc::clone(&parts.log);
    start("expire_producers", config, &parts, tasks, move || {
        let log = Arc::clone(&log);
        async move { log.expire_producers(config.producer_idle, PIECE).await }
    });
    let topics = Arc::clone(&parts.topics);
    start("sweep_deleted_topics", config, &parts, tasks, move || {
        let topics = Arc::clone(&topics);
        async move { topics.sweep_deleted_topics(PIECE).await }
    });
    let log_admin = Arc::clone(&parts.log_admin);
    start("sweep_trimmed_segments", config, &parts, tasks, move || {
        let log_admin = Arc::clone(&log_admin);
        async move { log_admin.sweep_trimmed_segments(PIECE).await }
    });
    let (log, materializer) = (Arc::clone(&parts.log), parts.materializer.clone());
    start("count_pending_events", SweepConfig { period: COUNT_EVERY, ..config }, &parts, tasks, move || {
        let (log, materializer) = (Arc::clone(&log), materializer.clone());
        async move { log.pending_events().await.map(|p| materializer.pending(p.count, p.oldest, p.set_aside)).map(|()| false) }
    });
}

fn start<F, R>(job: &'static str, config: SweepConfig, parts: &SweepParts, tasks: &Tasks, sweep: F)
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = Result<bool, MetaError>> + Send,
{
    let (clock, jobs, sweep) = (Arc::clone(&parts.clock), parts.jobs.clone(), Arc::new(sweep));
    tasks.spawn_loop(job, config.period, Nudge::default(), move || {
        let (clock, jobs, sweep) = (Arc::clone(&clock), jobs.clone(), Arc::clone(&sweep));
        async move {
            match sweep().await {
                Ok(more) => {
                    jobs.succeeded(job, clock.now());
                    if more { Progress::More } else { Progress::Idle }
                }
                Err(error) => {
                    jobs.failed(job);
                    tracing::warn!(job, %error, "a background job failed and is tried again at its next turn");
                    Progress::Idle
                }
            }
        }
    });
}

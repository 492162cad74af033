//! What no request brings about: deadlines that pass while nobody waits, members that fall silent, offsets that grow old.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::coordinator::Inner;
use super::event::Event;
use crate::clock::Clock;
use crate::metastore::{GroupSweep, MetaError};
use crate::metrics::JobMetrics;
use crate::tasks::{Nudge, Progress};
use crate::types::{GroupId, MemberId, Timestamp};

/// Beats are gathered for a second and may be written a little later than that.
const SWEEP: GroupSweep =
    GroupSweep { period: Duration::from_secs(1), grace: Duration::from_millis(1_500), lapse: Duration::from_secs(5), limit: 1_000 };
/// Kafka's `offsets.retention.check.interval.ms`; and how long a group that left nothing behind can still be seen.
const EXPIRY: Duration = Duration::from_mins(10);
/// Offsets removed in one statement.
const PIECE: usize = 5_000;

impl Inner {
    pub(super) fn start_sweeps(self: &Arc<Self>, clock: Arc<dyn Clock>, jobs: JobMetrics) {
        let (inner, time, metrics) = (Arc::clone(self), Arc::clone(&clock), jobs.clone());
        self.tasks.spawn_loop("sweep_groups", SWEEP.period, Nudge::default(), move || {
            let (inner, clock, jobs) = (Arc::clone(&inner), Arc::clone(&time), metrics.clone());
            async move { report("sweep_groups", inner.sweep().await, clock.as_ref(), &jobs) }
        });
        let inner = Arc::clone(self);
        self.tasks.spawn_loop("expire_groups", EXPIRY, Nudge::default(), move || {
            let (inner, clock, jobs) = (Arc::clone(&inner), Arc::clone(&clock), jobs.clone());
            async move {
                let expired = inner.groups.expire_groups(inner.settings.offsets_retention, EXPIRY, PIECE).await;
                report("expire_groups", expired, clock.as_ref(), &jobs)
            }
        });
    }

    /// True if there was more than one sweep takes.
    async fn sweep(self: &Arc<Self>) -> Result<bool, MetaError> {
        let Some(found) = self.groups.sweep_groups(SWEEP).await? else { return Ok(false) };
        let more = found.due.len().max(found.silent.len()) >= SWEEP.limit;
        let mut silent: BTreeMap<GroupId, Vec<(MemberId, Timestamp)>> = BTreeMap::new();
        for (beat, ended) in found.silent {
            silent.entry(beat.group).or_default().push((beat.member, ended));
        }
        let due = found.due.into_iter().filter(|group| !silent.contains_key(group)).map(|group| (group, Event::Tick));
        let due: Vec<_> = due.collect();
        let ended = silent.into_iter().map(|(group, sessions)| (group, Event::Sessions(sessions)));
        for (group, event) in due.into_iter().chain(ended) {
            let entry = self.table.entry(&group);
            if let Err(error) = self.ask(&entry, Some(event)).await {
                tracing::warn!(%group, %error, "a group could not be swept; the next sweep tries again");
            }
        }
        Ok(more)
    }
}

fn report(job: &'static str, done: Result<bool, MetaError>, clock: &dyn Clock, jobs: &JobMetrics) -> Progress {
    match done {
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

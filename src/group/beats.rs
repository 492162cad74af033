//! Signs of life: gathered as they come, written in one statement about once a second. The same statement says which groups have changed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::coordinator::Inner;
use super::known::Seen;
use crate::metastore::{Beat, MetaError};
use crate::tasks::{Nudge, Progress};
use crate::types::{GroupId, MemberId};

/// How long beats are gathered.
pub(super) const PERIOD: Duration = Duration::from_secs(1);
/// A state that was not confirmed for so long is loaded again before anybody relies on it.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(5);
/// Beats written in one statement.
const AT_ONCE: usize = 5_000;

/// Beats that are still to be written.
#[derive(Debug)]
pub(super) struct Beats {
    gathered: Mutex<BTreeSet<Beat>>,
    /// When the last look for changed groups began.
    confirmed_at: Mutex<Instant>,
}

impl Beats {
    pub(super) fn new() -> Self {
        Beats { gathered: Mutex::default(), confirmed_at: Mutex::new(Instant::now()) }
    }

    fn gathered(&self) -> MutexGuard<'_, BTreeSet<Beat>> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn confirmed_at(&self) -> MutexGuard<'_, Instant> {
        self.confirmed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn gather(&self, group: &GroupId, member: &MemberId) {
        self.gathered().insert(Beat { group: group.clone(), member: member.clone() });
    }

    /// Whether the state was loaded or confirmed a moment ago.
    pub(super) fn confirms(&self, seen: &Seen) -> bool {
        seen.at().max(*self.confirmed_at()).elapsed() < CONFIRMED_WITHIN
    }
}

impl Inner {
    pub(super) fn start_beats(self: &Arc<Self>) {
        let inner = Arc::clone(self);
        self.tasks.spawn_loop("group_beats", PERIOD, Nudge::default(), move || {
            let inner = Arc::clone(&inner);
            async move {
                if let Err(error) = inner.write_beats().await {
                    tracing::warn!(%error, "signs of life of group members could not be written; they are kept for the next time");
                }
                Progress::Idle
            }
        });
    }

    async fn write_beats(self: &Arc<Self>) -> Result<(), MetaError> {
        let began = Instant::now();
        let known = self.table.versions();
        self.metrics.knows(self.table.len());
        let mut beats = std::mem::take(&mut *self.beats.gathered());
        let mut rest = &known[..];
        while !beats.is_empty() || !rest.is_empty() {
            let later = beats.iter().nth(AT_ONCE).cloned().map(|first| beats.split_off(&first)).unwrap_or_default();
            let now: Vec<Beat> = beats.iter().cloned().collect();
            let (asked, left) = rest.split_at(rest.len().min(AT_ONCE));
            let changed = match self.groups.beat(&now, asked).await {
                Ok(changed) => changed,
                Err(error) => {
                    self.beats.gathered().extend(beats.into_iter().chain(later));
                    return Err(error);
                }
            };
            self.metrics.beats(now.len());
            for (group, version) in changed {
                self.changed(&group, version);
            }
            (beats, rest) = (later, left);
        }
        *self.beats.confirmed_at() = began;
        Ok(())
    }
}

//! What the seeds must bring about together: a simulation in which nothing happens proves nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Something that is hard for a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sight {
    AgentKilled,
    AgentStopped,
    AgentStoodStill,
    TopicDeleted,
    CommitLate,
    BatchParked,
    BatchDuplicate,
    BatchOutOfOrder,
    BatchFenced,
    LogUnknown,
    EpochBumped,
    SequenceWrapped,
    DeferredAnswer,
    RecordRepeated,
    GroupRebalanced,
    CommitRefused,
}

pub(crate) const ALL: [Sight; 16] = [
    Sight::AgentKilled,
    Sight::AgentStopped,
    Sight::AgentStoodStill,
    Sight::TopicDeleted,
    Sight::CommitLate,
    Sight::BatchParked,
    Sight::BatchDuplicate,
    Sight::BatchOutOfOrder,
    Sight::BatchFenced,
    Sight::LogUnknown,
    Sight::EpochBumped,
    Sight::SequenceWrapped,
    Sight::DeferredAnswer,
    Sight::RecordRepeated,
    Sight::GroupRebalanced,
    Sight::CommitRefused,
];

/// How often each was seen.
#[derive(Debug, Default)]
pub(crate) struct Sights(Mutex<BTreeMap<Sight, u64>>);

impl Sights {
    pub(crate) fn saw(&self, sight: Sight, times: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(sight).or_default() += times;
    }

    pub(crate) fn take(&self) -> BTreeMap<Sight, u64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn add(&self, others: &BTreeMap<Sight, u64>) {
        for (sight, times) in others {
            self.saw(*sight, *times);
        }
    }
}

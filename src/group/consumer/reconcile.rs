//! A member's way to its target.

use super::{Assignment, ConsumerGroup, Member, Progress};
use crate::types::{MemberId, Timestamp, TopicPartition};

impl ConsumerGroup {
    /// Leads the member as far as it can go now. `owned`: what it says that it reads; `None`: as before.
    pub(super) fn reconcile(&mut self, id: &MemberId, owned: Option<&Assignment>, now: Timestamp) {
        let Some(member) = self.members.get(id) else { return };
        let waits = match member.progress {
            Progress::Stable => member.epoch == self.epoch,
            Progress::Unrevoked { .. } => still_owns(owned, &member.revoking),
            Progress::Unreleased => false,
        };
        if waits {
            return;
        }
        let next = self.next(id, member, owned, now);
        self.members.insert(id.clone(), next);
    }

    fn next(&self, id: &MemberId, member: &Member, owned: Option<&Assignment>, now: Timestamp) -> Member {
        let kept = member.assigned.filter(|log| member.target.contains(log));
        let revoking = member.assigned.filter(|log| !member.target.contains(log));
        if !revoking.is_empty() && still_owns(owned, &revoking) {
            let deadline = now.plus(member.rebalance_timeout);
            return Member { progress: Progress::Unrevoked { deadline }, assigned: kept, revoking, ..member.clone() };
        }
        let held = |log: TopicPartition| self.members.iter().any(|(other, m)| other != id && m.holds(log));
        let free = member.target.filter(|log| kept.contains(log) || !held(log));
        let progress = if free.len() < member.target.len() { Progress::Unreleased } else { Progress::Stable };
        let previous_epoch = if member.epoch == self.epoch { member.previous_epoch } else { member.epoch };
        Member { progress, assigned: free, revoking: Assignment::default(), epoch: self.epoch, previous_epoch, ..member.clone() }
    }
}

/// Who does not say what it owns may own it still.
fn still_owns(owned: Option<&Assignment>, revoking: &Assignment) -> bool {
    owned.is_none_or(|owned| owned.overlaps(revoking))
}

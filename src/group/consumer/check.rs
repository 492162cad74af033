//! Who may do what: questions that change nothing.

use super::{ConsumerGroup, Heartbeat};
use crate::group::GroupError;
use crate::types::MemberId;

impl ConsumerGroup {
    /// Whether `member` is one, and holds its instance id if it names one.
    pub fn check_member(&self, member: &MemberId, instance: Option<&str>) -> Result<(), GroupError> {
        if let Some(instance) = instance {
            match self.holder_of(instance) {
                None => return Err(GroupError::UnknownMember),
                Some(holder) if holder != member => return Err(GroupError::FencedInstance),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member) { Ok(()) } else { Err(GroupError::UnknownMember) }
    }

    /// A heartbeat that does not join. One of the epoch before is accepted from a member that may have missed an answer.
    pub(super) fn check_epoch(&self, heartbeat: &Heartbeat) -> Result<(), GroupError> {
        self.check_member(&heartbeat.member, heartbeat.instance.as_deref())?;
        let member = self.members.get(&heartbeat.member).ok_or(GroupError::UnknownMember)?;
        let missed = || heartbeat.owned.as_ref().is_some_and(|owned| owned.is_within(&member.assigned));
        match heartbeat.epoch {
            epoch if epoch == member.epoch => Ok(()),
            epoch if epoch == member.previous_epoch && epoch < member.epoch && missed() => Ok(()),
            _other => Err(GroupError::FencedEpoch),
        }
    }

    /// OffsetCommit: `epoch` below zero and no member is somebody outside the group, who may commit only while it has no members.
    pub fn check_commit(&self, member: Option<&MemberId>, epoch: i32) -> Result<(), GroupError> {
        if epoch < 0 && self.is_empty() {
            return Ok(());
        }
        self.check_reader(member, epoch)
    }

    /// OffsetFetch: who names no member may always look.
    pub fn check_fetch(&self, member: Option<&MemberId>, epoch: i32) -> Result<(), GroupError> {
        if member.is_none() && epoch < 0 { Ok(()) } else { self.check_reader(member, epoch) }
    }

    fn check_reader(&self, member: Option<&MemberId>, epoch: i32) -> Result<(), GroupError> {
        let member = member.and_then(|id| self.members.get(id)).ok_or(GroupError::UnknownMember)?;
        match &member.classic {
            _ if member.epoch == epoch => Ok(()),
            Some(_) => Err(GroupError::IllegalGeneration),
            None => Err(GroupError::StaleEpoch),
        }
    }

    pub fn check_delete(&self) -> Result<(), GroupError> {
        if self.is_empty() { Ok(()) } else { Err(GroupError::NotEmpty) }
    }
}

//! Who may do what: questions that change nothing.

use super::{CONSUMER_PROTOCOL, ClassicGroup, Phase};
use crate::group::GroupError;
use crate::group::subscription::Topics;
use crate::types::MemberId;

impl ClassicGroup {
    /// Whether `member` is one, and still holds its instance id if it names one.
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

    /// Heartbeat. [`GroupError::RebalanceInProgress`] is a sign of life too.
    pub fn check_heartbeat(&self, member: &MemberId, instance: Option<&str>, generation: i32) -> Result<(), GroupError> {
        self.check_member(member, instance)?;
        if generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        match self.phase {
            Phase::Empty => Err(GroupError::UnknownMember),
            Phase::Preparing { .. } => Err(GroupError::RebalanceInProgress),
            Phase::Completing { .. } | Phase::Stable { .. } => Ok(()),
        }
    }

    /// OffsetCommit. A generation below zero, no member and no instance: somebody outside the group, who may commit only while it has no members.
    pub fn check_commit(&self, member: Option<&MemberId>, instance: Option<&str>, generation: i32) -> Result<(), GroupError> {
        if generation < 0 && self.is_empty() {
            return Ok(());
        }
        let nobody = MemberId("".into());
        if generation < 0 && member.is_none() && instance.is_none() {
            return Err(GroupError::UnknownMember);
        }
        self.check_member(member.unwrap_or(&nobody), instance)?;
        if generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        match self.phase {
            // The generation is announced, but who owns what in it is not.
            Phase::Completing { .. } => Err(GroupError::RebalanceInProgress),
            Phase::Empty | Phase::Preparing { .. } | Phase::Stable { .. } => Ok(()),
        }
    }

    pub fn check_delete(&self) -> Result<(), GroupError> {
        if self.is_empty() { Ok(()) } else { Err(GroupError::NotEmpty) }
    }

    /// OffsetDelete: which topics' offsets must stay.
    pub fn check_delete_offsets(&self) -> Result<Topics, GroupError> {
        if self.is_empty() {
            return Ok(Topics::default());
        }
        if self.protocol_type.as_deref() != Some(CONSUMER_PROTOCOL) {
            return Err(GroupError::NotEmpty);
        }
        Ok(self.subscribed())
    }

    /// The topics its members asked for in this generation; all topics where that cannot be read.
    #[must_use]
    pub fn subscribed(&self) -> Topics {
        let Some(protocol) = self.protocol.as_deref() else {
            return if self.is_empty() { Topics::default() } else { Topics::All };
        };
        Topics::of(self.members.values().map(|m| m.metadata(Some(protocol))))
    }
}

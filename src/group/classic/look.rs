//! What a request that waits is to be answered, found in the group's present state.

use super::event::{Assigned, Joined, JoinedMember};
use super::{ClassicGroup, Member, Phase};
use crate::group::GroupError;
use crate::types::MemberId;

/// What a waiter sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look<T> {
    Ready(Result<T, GroupError>),
    NotYet,
    /// The generation it joined has come and gone before it looked, and the next is being prepared: it is to join again.
    Again,
}

/// For a JoinGroup of `member` that was told to wait.
#[must_use]
pub fn joined(group: &ClassicGroup, member: &MemberId, instance: Option<&str>) -> Look<Joined> {
    if let Err(error) = group.check_member(member, instance) {
        return Look::Ready(Err(error));
    }
    let waits = group.members.get(member).is_some_and(|m| m.joined);
    match group.phase {
        Phase::Empty => Look::Ready(Err(GroupError::UnknownMember)),
        Phase::Preparing { .. } if waits => Look::NotYet,
        Phase::Preparing { .. } => Look::Again,
        Phase::Completing { .. } | Phase::Stable { .. } => Look::Ready(group.joined(member).ok_or(GroupError::UnknownMember)),
    }
}

/// For a SyncGroup of `member` in `generation` that was told to wait.
#[must_use]
pub fn assigned(group: &ClassicGroup, member: &MemberId, instance: Option<&str>, generation: i32) -> Look<Assigned> {
    if let Err(error) = group.check_member(member, instance) {
        return Look::Ready(Err(error));
    }
    match group.phase {
        Phase::Completing { .. } if group.generation == generation => Look::NotYet,
        Phase::Stable { .. } if group.generation == generation => Look::Ready(group.assigned(member).ok_or(GroupError::UnknownMember)),
        Phase::Empty | Phase::Preparing { .. } | Phase::Completing { .. } | Phase::Stable { .. } => {
            Look::Ready(Err(GroupError::RebalanceInProgress))
        }
    }
}

impl ClassicGroup {
    /// What this generation's JoinGroup tells `member`.
    pub(super) fn joined(&self, member: &MemberId) -> Option<Joined> {
        self.members.get(member)?;
        let leads = self.is_leader(member);
        let seen = |(id, m): (&MemberId, &Member)| JoinedMember {
            member: id.clone(),
            instance: m.instance.clone(),
            metadata: m.metadata(self.protocol.as_deref()),
        };
        Some(Joined {
            member: member.clone(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone()?,
            skip_assignment: false,
            members: if leads { self.members.iter().map(seen).collect() } else { Vec::new() },
        })
    }

    pub(super) fn assigned(&self, member: &MemberId) -> Option<Assigned> {
        let assignment = self.members.get(member)?.assignment.clone();
        Some(Assigned { protocol_type: self.protocol_type.clone(), protocol: self.protocol.clone(), assignment })
    }
}

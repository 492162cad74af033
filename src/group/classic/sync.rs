//! SyncGroup.

use std::collections::HashMap;

use bytes::Bytes;

use super::apply::Turn;
use super::event::Sync;
use super::{ClassicGroup, Phase};
use crate::group::GroupError;
use crate::group::effect::{Effect, Note, Reply};
use crate::types::MemberId;

impl Turn<'_> {
    pub(super) fn sync(&mut self, sync: &Sync) {
        if let Err(error) = self.group.check_sync(sync) {
            return self.refuse(error);
        }
        let leads = self.group.is_leader(&sync.member);
        match self.group.phase {
            Phase::Empty => self.refuse(GroupError::UnknownMember),
            Phase::Preparing { .. } => self.refuse(GroupError::RebalanceInProgress),
            Phase::Completing { deadline } if leads => {
                if let Err(error) = self.assign(sync) {
                    return self.refuse(error);
                }
                self.enter(Phase::Stable { deadline: Some(deadline) });
                self.note(Note::Stable(self.group.generation));
                self.answer_assigned(&sync.member);
            }
            Phase::Completing { .. } => {
                self.mark_synced(&sync.member);
                self.effects.push(Effect::Wait(sync.member.clone()));
            }
            Phase::Stable { .. } => self.answer_assigned(&sync.member),
        }
    }

    /// Who was forgotten gets nothing; what is meant for nobody is dropped.
    fn assign(&mut self, sync: &Sync) -> Result<(), GroupError> {
        let mut assignments: HashMap<&MemberId, &Bytes> = sync.assignments.iter().map(|(id, bytes)| (id, bytes)).collect();
        assignments.retain(|id, _| self.group.members.contains_key(*id));
        let subscriptions: usize = self.group.members.values().map(|m| super::protocol_bytes(&m.protocols)).sum();
        let assigned: usize = assignments.values().map(|bytes| bytes.len()).sum();
        if subscriptions + assigned > self.rules.max_group_bytes {
            return Err(GroupError::TooLarge);
        }
        for (id, member) in &mut self.group.members {
            member.assignment = assignments.get(id).map(|bytes| Bytes::clone(bytes)).unwrap_or_default();
        }
        Ok(())
    }

    fn mark_synced(&mut self, id: &MemberId) {
        if let Some(member) = self.group.members.get_mut(id) {
            member.synced = true;
            self.effects.push(Effect::Renew(id.clone(), member.session_timeout));
        }
    }

    fn answer_assigned(&mut self, member: &MemberId) {
        self.mark_synced(member);
        if self.group.all_synced() {
            self.group.phase = Phase::Stable { deadline: None };
        }
        let assigned = self.group.assigned(member).map(Reply::Assigned);
        self.answer(assigned.ok_or(GroupError::UnknownMember));
    }
}

impl ClassicGroup {
    fn check_sync(&self, sync: &Sync) -> Result<(), GroupError> {
        self.check_member(&sync.member, sync.instance.as_deref())?;
        if sync.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let differs = |asked: Option<&str>, ours: Option<&str>| asked.is_some() && ours.is_some() && asked != ours;
        if differs(sync.protocol_type.as_deref(), self.protocol_type.as_deref())
            || differs(sync.protocol.as_deref(), self.protocol.as_deref())
        {
            return Err(GroupError::InconsistentProtocol);
        }
        Ok(())
    }
}

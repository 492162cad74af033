//! Members that go: of their own will, because they are silent, or because they do not let go.

use super::heartbeat::Turn;
use super::{Assignor, Beaten, ConsumerGroup, Heartbeat, LEFT_FOR_NOW, Rules};
use crate::group::GroupError;
use crate::group::classic::Leaver;
use crate::group::effect::{Effect, Note, Reply};
use crate::types::{MemberId, Timestamp};

impl Turn<'_> {
    pub(super) fn pass_time(&mut self) {
        let late = self.group.members.iter().filter(|(_, m)| m.deadline().is_some_and(|deadline| deadline <= self.now));
        let late: Vec<MemberId> = late.map(|(id, _)| id.clone()).collect();
        self.remove(&late, "did not revoke or rejoin");
    }

    pub(super) fn end_sessions(&mut self, sessions: &[(MemberId, Timestamp)]) {
        let over = sessions.iter().filter(|(_, ends)| *ends <= self.now).map(|(member, _)| member.clone());
        self.remove(&over.collect::<Vec<_>>(), "session ended");
        self.answer(Ok(Reply::Done));
    }

    pub(super) fn goes(&mut self, heartbeat: &Heartbeat) -> Result<Beaten, GroupError> {
        self.group.check_member(&heartbeat.member, heartbeat.instance.as_deref())?;
        let id = &heartbeat.member;
        if heartbeat.epoch == LEFT_FOR_NOW {
            // What it had stays its own for as long as its session lasts.
            if let Some(member) = self.group.members.get_mut(id) {
                member.epoch = LEFT_FOR_NOW;
            }
            self.renew(id);
        } else {
            self.remove(std::slice::from_ref(id), "left");
        }
        Ok(Beaten { member: id.clone(), epoch: heartbeat.epoch, assignment: None })
    }

    /// LeaveGroup, by which administrators remove members.
    pub(super) fn leave(&mut self, leavers: &[Leaver]) {
        let mut answers = Vec::new();
        for leaver in leavers {
            let holder = leaver.instance.as_deref().and_then(|instance| self.group.holder_of(instance)).cloned();
            let found = match &leaver.member {
                Some(member) => self.group.check_member(member, leaver.instance.as_deref()).map(|()| member.clone()),
                None => holder.ok_or(GroupError::UnknownMember),
            };
            answers.push(found.map(|member| self.remove(&[member], "left")));
        }
        self.answer(Ok(Reply::Left(answers)));
    }

    /// The others share what these had.
    fn remove(&mut self, members: &[MemberId], why: &'static str) {
        let mut removed = false;
        for id in members {
            removed |= self.group.members.remove(id).is_some();
            self.effects.extend([Effect::Forget(id.clone()), Effect::Note(Note::Removed(id.clone(), why))]);
        }
        if !removed {
            return;
        }
        if self.group.is_empty() {
            self.group.since = self.now;
            self.effects.push(Effect::Note(Note::Emptied));
        }
        let subscribed = self.group.subscribed(&self.group.catalog());
        self.begin_epoch(subscribed);
    }
}

impl ConsumerGroup {
    /// What most members ask for; of equals, and if nobody asks, the first of those allowed.
    pub(super) fn preferred(&self, rules: &Rules) -> Assignor {
        let votes = |assignor: Assignor| self.members.values().filter(|m| m.assignor == Some(assignor)).count();
        let order = |assignor: Assignor| rules.assignors.iter().position(|known| *known == assignor);
        let best = rules.assignors.iter().copied().max_by_key(|assignor| (votes(*assignor), std::cmp::Reverse(order(*assignor))));
        best.unwrap_or_default()
    }
}

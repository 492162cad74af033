//! One turn of the machine.

use super::event::{Leaver, Rules};
use super::{ClassicGroup, Phase};
use crate::group::GroupError;
use crate::group::effect::{Effect, Note, Reply};
use crate::group::event::Event;
use crate::types::{MemberId, Timestamp};

/// What `event` makes of `group` at `now`, the metastore's time. A deadline that has passed takes effect first.
///
/// The result holds one [`Effect::Answer`] or [`Effect::Wait`].
#[must_use]
pub fn apply(group: ClassicGroup, event: &Event, rules: &Rules, now: Timestamp) -> (ClassicGroup, Vec<Effect>) {
    let mut turn = Turn { group, rules, now, effects: Vec::new() };
    turn.pass_time();
    match event {
        Event::Join(join) => turn.join(join),
        Event::Sync(sync) => turn.sync(sync),
        Event::Leave(leavers) => turn.leave(leavers),
        Event::Heartbeat(_) if turn.group.is_empty() => turn.refuse(GroupError::UnknownMember),
        Event::Heartbeat(_) => turn.refuse(GroupError::NotFound),
        Event::Tick => turn.answer(Ok(Reply::Done)),
        Event::Sessions(sessions) => turn.end_sessions(sessions),
    }
    turn.end_gathering_at_once();
    (turn.group, turn.effects)
}

/// Everybody has to join again.
#[must_use]
pub fn rebalance(group: ClassicGroup, why: &'static str, rules: &Rules, now: Timestamp) -> (ClassicGroup, Vec<Effect>) {
    let mut turn = Turn { group, rules, now, effects: Vec::new() };
    turn.prepare(why);
    (turn.group, turn.effects)
}

/// A state on its way to the next.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) group: ClassicGroup,
    pub(super) rules: &'a Rules,
    pub(super) now: Timestamp,
    pub(super) effects: Vec<Effect>,
}

impl Turn<'_> {
    pub(super) fn answer(&mut self, answer: Result<Reply, GroupError>) {
        self.effects.push(Effect::Answer(answer));
    }

    pub(super) fn refuse(&mut self, error: GroupError) {
        self.answer(Err(error));
    }

    pub(super) fn note(&mut self, note: Note) {
        self.effects.push(Effect::Note(note));
    }

    pub(super) fn enter(&mut self, phase: Phase) {
        self.group.phase = phase;
        self.group.since = self.now;
        self.effects.push(Effect::Announce);
    }

    /// Takes the member out, whatever it is waiting for; a new leader is found when the next generation begins.
    pub(super) fn remove(&mut self, member: &MemberId, why: &'static str) {
        let was_member = self.group.members.remove(member).is_some();
        if self.group.pending.remove(member) || was_member {
            self.effects.push(Effect::Forget(member.clone()));
            self.note(Note::Removed(member.clone(), why));
        }
        if self.group.is_leader(member) {
            self.group.leader = self.group.members.keys().next().cloned();
        }
        if was_member {
            self.effects.push(Effect::Announce);
        }
    }

    fn leave(&mut self, leavers: &[Leaver]) {
        let left: Vec<_> = leavers.iter().map(|leaver| self.leave_one(leaver)).collect();
        if left.iter().any(Result::is_ok) {
            self.go_on_without("a member left");
        }
        self.answer(Ok(Reply::Left(left)));
    }

    fn leave_one(&mut self, leaver: &Leaver) -> Result<(), GroupError> {
        let member = match (&leaver.member, leaver.instance.as_deref()) {
            (None, instance) => instance.and_then(|i| self.group.holder_of(i)).cloned().ok_or(GroupError::UnknownMember)?,
            (Some(member), _) if self.group.pending.contains(member) => member.clone(),
            (Some(member), instance) => {
                self.group.check_member(member, instance)?;
                member.clone()
            }
        };
        self.remove(&member, "left");
        Ok(())
    }

    fn end_sessions(&mut self, sessions: &[(MemberId, Timestamp)]) {
        let over: Vec<_> = sessions.iter().filter(|(_, ends)| *ends <= self.now).map(|(member, _)| member).collect();
        let known = |m: &&MemberId| self.group.members.contains_key(*m) || self.group.pending.contains(*m);
        let ended: Vec<MemberId> = over.into_iter().filter(known).cloned().collect();
        for member in &ended {
            self.remove(member, "session ended");
        }
        if !ended.is_empty() {
            self.go_on_without("a member's session ended");
        }
        self.answer(Ok(Reply::Done));
    }
}

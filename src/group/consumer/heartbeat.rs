//! One turn: a heartbeat, or time that passes.

use std::sync::Arc;
use std::time::Duration;

use super::{Assignment, Beaten, ConsumerGroup, Heartbeat, LEAVES, LEFT_FOR_NOW, Member, Progress, Rules, subscribe};
use crate::group::GroupError;
use crate::group::effect::{Effect, Note, Reply};
use crate::group::event::Event;
use crate::types::{MemberId, Timestamp};

/// What `event` makes of `group` at `now`, the metastore's time. A deadline that has passed takes effect first.
#[must_use]
pub(in crate::group) fn apply(group: ConsumerGroup, event: &Event, rules: &Rules, now: Timestamp) -> (ConsumerGroup, Vec<Effect>) {
    let asked = if let Event::Heartbeat(heartbeat) = event { heartbeat.session_timeout } else { None };
    let session_timeout = asked.unwrap_or(rules.session_timeout);
    let mut turn = Turn { group, rules, session_timeout, now, effects: Vec::new() };
    turn.pass_time();
    match event {
        Event::Heartbeat(heartbeat) => turn.heartbeat(heartbeat),
        Event::Sessions(sessions) => turn.end_sessions(sessions),
        Event::Tick => turn.answer(Ok(Reply::Done)),
        Event::Leave(leavers) => turn.leave(leavers),
        Event::Join(join) => turn.join(join),
        Event::Sync(sync) => turn.sync(sync),
    }
    (turn.group, turn.effects)
}

/// A state on its way to the next.
pub(super) struct Turn<'a> {
    pub(super) group: ConsumerGroup,
    pub(super) rules: &'a Rules,
    /// Of the group.
    pub(super) session_timeout: Duration,
    pub(super) now: Timestamp,
    pub(super) effects: Vec<Effect>,
}

impl Turn<'_> {
    pub(super) fn answer(&mut self, answer: Result<Reply, GroupError>) {
        self.effects.push(Effect::Answer(answer));
    }

    fn heartbeat(&mut self, heartbeat: &Heartbeat) {
        let answer = match heartbeat.epoch {
            LEAVES | LEFT_FOR_NOW => self.goes(heartbeat),
            _stays => self.beats(heartbeat),
        };
        self.answer(answer.map(Reply::Beaten));
    }

    fn beats(&mut self, heartbeat: &Heartbeat) -> Result<Beaten, GroupError> {
        self.check(heartbeat)?;
        let new = self.admit(heartbeat)?;
        let id = &heartbeat.member;
        let subscribed = self.update(heartbeat);
        let before = self.group.members.get(id).map(|m| m.assigned.clone()).unwrap_or_default();
        self.retarget(heartbeat, new || subscribed);
        // Who joins owns nothing.
        let nothing = Assignment::default();
        let owned = if heartbeat.epoch == 0 { Some(&nothing) } else { heartbeat.owned.as_ref() };
        self.group.reconcile(id, owned, self.now);
        let member = self.group.members.get(id).ok_or(GroupError::UnknownMember)?;
        let tell = heartbeat.is_full() || member.assigned != before;
        Ok(Beaten { member: id.clone(), epoch: member.epoch, assignment: tell.then(|| member.assigned.clone()) })
    }

    /// What can be said before anything is changed.
    fn check(&self, heartbeat: &Heartbeat) -> Result<(), GroupError> {
        let names: usize = heartbeat.names.iter().flatten().map(|name| name.len()).sum();
        if names + heartbeat.pattern.as_ref().map_or(0, |pattern| pattern.len()) > self.rules.max_member_bytes {
            return Err(GroupError::TooLarge);
        }
        if heartbeat.assignor.is_some_and(|assignor| !self.rules.assignors.contains(&assignor)) {
            return Err(GroupError::UnsupportedAssignor);
        }
        let pattern = heartbeat.pattern.as_deref().filter(|pattern| !pattern.is_empty());
        pattern.map_or(Ok(()), |pattern| subscribe::compile(pattern).map(drop))?;
        match heartbeat.epoch {
            0 => Ok(()),
            _later => self.group.check_epoch(heartbeat),
        }
    }

    /// True if the group has one more member, or another one in the place of one.
    fn admit(&mut self, heartbeat: &Heartbeat) -> Result<bool, GroupError> {
        let id = &heartbeat.member;
        let holder = heartbeat.instance.as_deref().and_then(|instance| self.group.holder_of(instance)).cloned();
        match holder {
            Some(holder) if holder == *id => {}
            Some(holder) => return self.replace(&holder, heartbeat),
            None if self.group.members.contains_key(id) => {}
            None if self.group.members.len() >= self.rules.max_members => return Err(GroupError::GroupFull),
            None => {
                self.group.members.insert(id.clone(), Member { instance: heartbeat.instance.clone(), ..Member::default() });
                self.effects.push(Effect::Note(Note::Added(id.clone())));
                self.renew(id);
                return Ok(true);
            }
        }
        if heartbeat.epoch == 0 {
            self.rejoin(id);
        }
        Ok(false)
    }

    /// Only over a static member that has said that it goes.
    fn replace(&mut self, holder: &MemberId, heartbeat: &Heartbeat) -> Result<bool, GroupError> {
        let id = &heartbeat.member;
        if self.group.members.get(holder).is_none_or(|m| m.epoch != LEFT_FOR_NOW) {
            return Err(GroupError::UnreleasedInstance);
        }
        if let Some(member) = self.group.members.remove(holder) {
            self.group.members.insert(id.clone(), member);
        }
        self.effects.extend([Effect::Forget(holder.clone()), Effect::Note(Note::Replaced { old: holder.clone(), new: id.clone() })]);
        self.rejoin(id);
        Ok(false)
    }

    /// It owns nothing now; what it had waits for it.
    fn rejoin(&mut self, id: &MemberId) {
        if let Some(member) = self.group.members.get_mut(id) {
            member.assigned = member.assigned.filter(|log| member.target.contains(log));
            (member.progress, member.epoch, member.previous_epoch) = (Progress::Stable, 0, 0);
            member.revoking = Assignment::default();
        }
        self.renew(id);
    }

    pub(super) fn renew(&mut self, id: &MemberId) {
        let classic = self.group.members.get(id).and_then(|m| m.classic.as_ref());
        let timeout = classic.map_or(self.session_timeout, |classic| classic.session_timeout);
        self.effects.push(Effect::Renew(id.clone(), timeout));
    }

    /// True if it wants to read something else now.
    fn update(&mut self, heartbeat: &Heartbeat) -> bool {
        let Some(member) = self.group.members.get_mut(&heartbeat.member) else { return false };
        let before = (member.names.clone(), member.pattern.clone(), member.assignor);
        if let Some(names) = &heartbeat.names {
            member.names.clone_from(names);
            member.names.sort();
            member.names.dedup();
        }
        if let Some(pattern) = &heartbeat.pattern {
            member.pattern = Some(Arc::clone(pattern)).filter(|pattern| !pattern.is_empty());
        }
        member.assignor = heartbeat.assignor.or(member.assignor);
        member.rebalance_timeout = heartbeat.rebalance_timeout.unwrap_or(member.rebalance_timeout);
        if heartbeat.epoch == 0 {
            // It may have spoken the classic protocol before.
            member.classic = None;
            (member.client_id, member.client_host) = (Arc::clone(&heartbeat.client_id), Arc::clone(&heartbeat.client_host));
            member.rack.clone_from(&heartbeat.rack);
        }
        before != (member.names.clone(), member.pattern.clone(), member.assignor)
    }

    /// A new epoch and target, if members or topics are others.
    fn retarget(&mut self, heartbeat: &Heartbeat, changed: bool) {
        let catalog = match &heartbeat.catalog {
            Some(catalog) => Arc::clone(catalog),
            None if changed => Arc::new(self.group.catalog()),
            None => return,
        };
        let subscribed = self.group.subscribed(&catalog);
        if changed || subscribed.topics != self.group.topics {
            self.begin_epoch(subscribed);
        }
    }

    pub(super) fn begin_epoch(&mut self, subscribed: subscribe::Subscribed) {
        self.group.epoch = self.group.epoch.checked_add(1).unwrap_or(1);
        self.group.assignor = self.group.preferred(self.rules);
        super::assign::assign(&mut self.group, &subscribed);
        self.group.topics = subscribed.topics;
        for member in self.group.members.values_mut() {
            if let Some(classic) = &mut member.classic {
                classic.rejoin_by.get_or_insert_with(|| self.now.plus(member.rebalance_timeout));
            }
        }
        self.effects.extend([Effect::Announce, Effect::Note(Note::Generation(self.group.epoch))]);
    }
}

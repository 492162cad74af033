//! JoinGroup.

use std::sync::Arc;

use bytes::Bytes;

use super::apply::Turn;
use super::event::Join;
use super::{Member, Phase, protocol_bytes};
use crate::group::GroupError;
use crate::group::effect::{Effect, Note, Reply};
use crate::types::MemberId;

impl Turn<'_> {
    pub(super) fn join(&mut self, join: &Join) {
        // A join whose outcome was unknown may come a second time.
        let known = join.member.clone().or_else(|| Some(join.new_id.clone()).filter(|id| self.group.members.contains_key(id)));
        let admitted = self.admit(join, known.as_ref());
        match (admitted, known) {
            (Err(error), _) => self.refuse(error),
            (Ok(()), Some(member)) => self.join_known(join, &member),
            (Ok(()), None) => self.join_new(join),
        }
    }

    fn admit(&self, join: &Join, member: Option<&MemberId>) -> Result<(), GroupError> {
        if join.protocol_type.is_empty() || join.protocols.is_empty() {
            return Err(GroupError::InconsistentProtocol);
        }
        let bytes = protocol_bytes(&join.protocols);
        let before = member.and_then(|id| self.group.members.get(id)).map_or(0, |m| protocol_bytes(&m.protocols));
        if bytes > self.rules.max_member_bytes || self.group.bytes() - before + bytes > self.rules.max_group_bytes {
            return Err(GroupError::TooLarge);
        }
        self.has_room_for(join, member)?;
        if self.agrees_with(join) { Ok(()) } else { Err(GroupError::InconsistentProtocol) }
    }

    /// While members join again, those who have not yet do not count: the last to come is the one left out.
    fn has_room_for(&self, join: &Join, member: Option<&MemberId>) -> Result<(), GroupError> {
        let group = &self.group;
        let replaced = || join.instance.as_deref().and_then(|i| group.holder_of(i));
        let mine = member.or_else(replaced).and_then(|id| group.members.get(id));
        let (already_in, taken) = match group.phase {
            Phase::Empty => (true, 0),
            Phase::Preparing { .. } => (mine.is_some_and(|m| m.joined), group.members.values().filter(|m| m.joined).count()),
            Phase::Completing { .. } | Phase::Stable { .. } => (mine.is_some(), group.members.len()),
        };
        if already_in || taken < self.rules.max_members { Ok(()) } else { Err(GroupError::GroupFull) }
    }

    /// One protocol at least must be known to all members.
    fn agrees_with(&self, join: &Join) -> bool {
        if self.group.is_empty() {
            return true;
        }
        let same_type = self.group.protocol_type.as_deref() == Some(&*join.protocol_type);
        same_type && join.protocols.iter().any(|p| self.group.members.values().all(|m| m.knows(&p.name)))
    }

    fn join_new(&mut self, join: &Join) {
        let replaced = join.instance.as_deref().and_then(|i| self.group.holder_of(i)).cloned();
        match replaced {
            Some(old) => self.replace(join, &old),
            None if join.instance.is_none() && join.id_first => {
                self.group.pending.insert(join.new_id.clone());
                self.effects.push(Effect::Renew(join.new_id.clone(), join.session_timeout));
                self.refuse(GroupError::MemberIdRequired(join.new_id.clone()));
            }
            None => self.add(join, &join.new_id),
        }
    }

    fn join_known(&mut self, join: &Join, member: &MemberId) {
        if self.group.pending.contains(member) && join.instance.is_none() {
            return self.add(join, member);
        }
        if let Err(error) = self.group.check_member(member, join.instance.as_deref()) {
            return self.refuse(error);
        }
        let unchanged = self.group.members.get(member).is_some_and(|m| m.protocols == join.protocols);
        match self.group.phase {
            Phase::Empty => self.refuse(GroupError::UnknownMember),
            Phase::Preparing { .. } => self.rejoin(join, member, "a member joined"),
            // The leader joins again when something only it can see has changed, such as the number of partitions.
            Phase::Stable { .. } if self.group.is_leader(member) => self.rejoin(join, member, "the leader joined again"),
            // It may have missed the answer.
            Phase::Completing { .. } | Phase::Stable { .. } if unchanged => self.answer_joined(member),
            Phase::Completing { .. } | Phase::Stable { .. } => self.rejoin(join, member, "a member changed its subscription"),
        }
    }

    fn answer_joined(&mut self, member: &MemberId) {
        if let Some(known) = self.group.members.get(member) {
            self.effects.push(Effect::Renew(member.clone(), known.session_timeout));
        }
        let joined = self.group.joined(member).map(Reply::Joined);
        self.answer(joined.ok_or(GroupError::UnknownMember));
    }

    fn rejoin(&mut self, join: &Join, member: &MemberId, why: &'static str) {
        self.update(join, member);
        self.rebalance_or_complete(why);
        self.wait_or_answer(member);
    }

    fn add(&mut self, join: &Join, id: &MemberId) {
        self.group.pending.remove(id);
        if self.group.members.is_empty() {
            self.group.protocol_type = Some(Arc::clone(&join.protocol_type));
            self.group.leader = None;
        }
        if let Phase::Preparing { gathering: Some(gathering), .. } = &mut self.group.phase {
            gathering.grew = true;
        }
        let member = Member {
            instance: join.instance.clone(),
            client_id: Arc::clone(&join.client_id),
            client_host: Arc::clone(&join.client_host),
            rebalance_timeout: join.rebalance_timeout,
            session_timeout: join.session_timeout,
            protocols: join.protocols.clone(),
            assignment: Bytes::new(),
            joined: true,
            synced: false,
        };
        self.effects.push(Effect::Renew(id.clone(), member.session_timeout));
        self.group.members.insert(id.clone(), member);
        self.group.leader.get_or_insert_with(|| id.clone());
        self.note(Note::Added(id.clone()));
        self.rebalance_or_complete("a member joined");
        self.wait_or_answer(id);
    }

    fn update(&mut self, join: &Join, id: &MemberId) {
        let Some(member) = self.group.members.get_mut(id) else { return };
        member.protocols.clone_from(&join.protocols);
        member.rebalance_timeout = join.rebalance_timeout;
        member.session_timeout = join.session_timeout;
        member.joined = true;
        self.effects.push(Effect::Renew(id.clone(), member.session_timeout));
    }

    /// With a rebalance that is complete in the turn that began it, the answer is there at once.
    fn wait_or_answer(&mut self, member: &MemberId) {
        self.end_gathering_at_once();
        match self.group.phase {
            Phase::Preparing { .. } => self.effects.push(Effect::Wait(member.clone())),
            Phase::Completing { .. } | Phase::Stable { .. } | Phase::Empty => {
                let joined = self.group.joined(member).map(Reply::Joined);
                self.answer(joined.ok_or(GroupError::UnknownMember));
            }
        }
    }

    /// A static member came back without its id: the new one takes the old one's place, and the old one is fenced.
    fn replace(&mut self, join: &Join, old: &MemberId) {
        let Some(member) = self.group.members.remove(old) else { return };
        let new = &join.new_id;
        self.group.pending.remove(new);
        let led_by = self.group.leader.clone();
        if self.group.is_leader(old) {
            self.group.leader = Some(new.clone());
        }
        self.group.members.insert(new.clone(), member);
        self.effects.extend([Effect::Forget(old.clone()), Effect::Announce]);
        self.note(Note::Replaced { old: old.clone(), new: new.clone() });
        self.update(join, new);
        match self.group.phase {
            // As it was: no rebalance, if the vote does not change either (KIP-345).
            Phase::Stable { .. } if self.vote() == self.group.protocol => self.answer_replaced(join, led_by),
            Phase::Stable { .. } => self.rejoined("a static member came back and changed the protocol", new),
            // Whoever completes a generation may have been given the old id to assign to.
            Phase::Completing { .. } | Phase::Preparing { .. } | Phase::Empty => self.rejoined("a static member came back", new),
        }
    }

    fn rejoined(&mut self, why: &'static str, member: &MemberId) {
        self.rebalance_or_complete(why);
        self.wait_or_answer(member);
    }

    /// A leader that came back must not assign. Version 9 can say so; older clients are told that the member they were leads, and follow.
    fn answer_replaced(&mut self, join: &Join, led_by: Option<MemberId>) {
        let new = &join.new_id;
        if let Some(member) = self.group.members.get_mut(new) {
            member.joined = false;
        }
        let Some(mut joined) = self.group.joined(new) else { return self.refuse(GroupError::UnknownMember) };
        if join.may_skip_assignment {
            joined.skip_assignment = self.group.is_leader(new);
        } else {
            joined.leader = led_by.unwrap_or_else(|| new.clone());
            joined.members.clear();
        }
        self.answer(Ok(Reply::Joined(joined)));
    }
}

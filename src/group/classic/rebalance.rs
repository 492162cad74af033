//! From one generation to the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::apply::Turn;
use super::{Gathering, Member, Phase};
use crate::group::effect::{Effect, Note};
use crate::types::MemberId;

impl Turn<'_> {
    /// Lets a deadline that is over take effect.
    pub(super) fn pass_time(&mut self) {
        match self.group.phase {
            Phase::Preparing { deadline, gathering } if deadline <= self.now => self.end_preparing(gathering),
            Phase::Completing { deadline } | Phase::Stable { deadline: Some(deadline) } if deadline <= self.now => self.drop_unsynced(),
            Phase::Empty | Phase::Preparing { .. } | Phase::Completing { .. } | Phase::Stable { .. } => {}
        }
    }

    /// A gathering of no length ends in the turn that began it.
    pub(super) fn end_gathering_at_once(&mut self) {
        match self.group.phase {
            Phase::Preparing { deadline, gathering: gathering @ Some(_) } if deadline <= self.now => self.end_preparing(gathering),
            Phase::Preparing { .. } | Phase::Empty | Phase::Completing { .. } | Phase::Stable { .. } => {}
        }
    }

    fn end_preparing(&mut self, gathering: Option<Gathering>) {
        match gathering {
            Some(Gathering { grew: true, delay, remaining }) if !remaining.is_zero() => {
                let next = self.rules.initial_delay.min(remaining);
                let gathering = Gathering { grew: false, delay: next, remaining: remaining.saturating_sub(delay) };
                self.group.phase = Phase::Preparing { deadline: self.now.plus(next), gathering: Some(gathering) };
            }
            Some(_) | None => self.complete_join(),
        }
    }

    /// After a change of a member: a rebalance begins, or the one that is under way may be complete.
    pub(super) fn rebalance_or_complete(&mut self, why: &'static str) {
        match self.group.phase {
            Phase::Empty | Phase::Completing { .. } | Phase::Stable { .. } => self.prepare(why),
            Phase::Preparing { .. } => self.complete_if_all_joined(),
        }
    }

    /// After members have gone.
    pub(super) fn go_on_without(&mut self, why: &'static str) {
        match self.group.phase {
            // Only pending ones can have gone.
            Phase::Empty => {}
            Phase::Completing { .. } | Phase::Stable { .. } => self.prepare(why),
            Phase::Preparing { .. } => self.complete_if_all_joined(),
        }
    }

    /// Everybody has to join again.
    pub(super) fn prepare(&mut self, why: &'static str) {
        if matches!(self.group.phase, Phase::Completing { .. }) {
            // What an earlier generation assigned is nobody's now.
            self.group.members.values_mut().for_each(|m| m.assignment = Bytes::new());
        }
        self.note(Note::Rebalancing(why));
        let timeout = self.group.rebalance_timeout();
        if self.group.is_empty() {
            let delay = self.rules.initial_delay;
            let gathering = Gathering { grew: false, delay, remaining: timeout.saturating_sub(delay) };
            self.enter(Phase::Preparing { deadline: self.now.plus(delay), gathering: Some(gathering) });
        } else {
            self.enter(Phase::Preparing { deadline: self.now.plus(timeout), gathering: None });
            self.complete_if_all_joined();
        }
    }

    /// A gathering goes on until its deadline, unless everybody has gone again.
    fn complete_if_all_joined(&mut self) {
        let Phase::Preparing { gathering, .. } = self.group.phase else { return };
        let nobody = self.group.members.is_empty();
        if self.group.all_joined() && (gathering.is_none() || nobody) {
            self.complete_join();
        }
    }

    /// Ends the joining: who has not joined is out, except static members, who may still come back within their session.
    fn complete_join(&mut self) {
        let late = self.group.members.iter().filter(|(_, m)| !m.joined && m.instance.is_none()).map(|(id, _)| id.clone());
        for member in late.collect::<Vec<_>>() {
            self.remove(&member, "did not rejoin");
        }
        if self.group.members.is_empty() {
            return self.become_empty();
        }
        let Some(first) = self.group.members.iter().find(|(_, m)| m.joined).map(|(id, _)| id.clone()) else {
            // Only static members are left, and none of them is there. Their sessions decide.
            let deadline = self.now.plus(self.group.rebalance_timeout().max(Duration::from_secs(1)));
            self.group.phase = Phase::Preparing { deadline, gathering: None };
            return;
        };
        let leads = |leader: &MemberId| self.group.members.get(leader).is_some_and(|m| m.joined);
        if !self.group.leader.as_ref().is_some_and(leads) {
            self.group.leader = Some(first);
        }
        self.begin_generation();
    }

    fn become_empty(&mut self) {
        self.group.generation = next(self.group.generation);
        self.group.protocol = None;
        self.group.leader = None;
        self.enter(Phase::Empty);
        self.note(Note::Emptied);
    }

    fn begin_generation(&mut self) {
        self.group.generation = next(self.group.generation);
        self.group.protocol = self.vote();
        self.enter(Phase::Completing { deadline: self.now.plus(self.group.rebalance_timeout()) });
        for (id, member) in &mut self.group.members {
            (member.joined, member.synced) = (false, false);
            self.effects.push(Effect::Renew(id.clone(), member.session_timeout));
        }
        self.note(Note::Generation(self.group.generation));
    }

    /// Each member votes for the first of its protocols that all know; of equals the leader's choice wins, then the first in the alphabet.
    pub(super) fn vote(&self) -> Option<Arc<str>> {
        let members = &self.group.members;
        let shared = |name: &str| members.values().all(|m| m.knows(name));
        let choice = |m: &Member| m.protocols.iter().find(|p| shared(&p.name)).map(|p| Arc::clone(&p.name));
        let mut votes: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for name in members.values().filter_map(choice) {
            *votes.entry(name).or_default() += 1;
        }
        let most = votes.values().max().copied()?;
        let leader = self.group.leader.as_ref().and_then(|l| members.get(l)).and_then(choice);
        leader.filter(|name| votes.get(name) == Some(&most)).or_else(|| votes.into_iter().find(|(_, n)| *n == most).map(|(name, _)| name))
    }

    /// Members that joined and never asked for their assignment are out.
    fn drop_unsynced(&mut self) {
        let silent = self.group.members.iter().filter(|(_, m)| !m.synced).map(|(id, _)| id.clone());
        let silent: Vec<_> = silent.collect();
        for member in &silent {
            self.remove(member, "did not sync");
        }
        if silent.is_empty() {
            self.group.phase = Phase::Stable { deadline: None };
        } else {
            self.prepare("members did not sync in time");
        }
    }
}

fn next(generation: i32) -> i32 {
    generation.checked_add(1).unwrap_or(0)
}

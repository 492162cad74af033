//! Members of the classic protocol in a group of the consumer protocol, while its members change over (KIP-848, online migration).
//!
//! They cannot be told anything: they find by a heartbeat that they have to join again, join at once, and ask what they have.

use std::sync::Arc;

use super::heartbeat::Turn;
use super::{Assignment, Catalog, ClassicSide, ConsumerGroup, Member, Progress};
use crate::group::GroupError;
use crate::group::classic::{Assigned, CONSUMER_PROTOCOL, Join, Joined, Sync};
use crate::group::effect::{Effect, Note, Reply};
use crate::group::subscription::{self, Named, Subscription};
use crate::types::{MemberId, TopicPartition};

impl Turn<'_> {
    pub(super) fn join(&mut self, join: &Join) {
        let answer = self.joins(join);
        self.answer(answer.map(Reply::Joined));
    }

    fn joins(&mut self, join: &Join) -> Result<Joined, GroupError> {
        let subscription = self.group.admissible(join)?;
        let (id, new) = self.classic_id(join)?;
        let owned = self.group.catalog().logs(&subscription.owned);
        let subscribed = self.update_classic(join, &id, subscription);
        if new || subscribed {
            let subscribed = self.group.subscribed(&self.group.catalog());
            self.begin_epoch(subscribed);
        }
        self.group.reconcile(&id, Some(&owned), self.now);
        self.renew(&id);
        let member = self.group.members.get_mut(&id).ok_or(GroupError::UnknownMember)?;
        if let Some(classic) = &mut member.classic {
            classic.rejoin_by = None;
        }
        Ok(Joined {
            member: id.clone(),
            generation: member.epoch,
            protocol_type: Some(CONSUMER_PROTOCOL.into()),
            protocol: member.classic_protocol(),
            // Nobody of them leads.
            leader: MemberId("".into()),
            skip_assignment: false,
            members: Vec::new(),
        })
    }

    /// The member's id, and whether it is new.
    fn classic_id(&mut self, join: &Join) -> Result<(MemberId, bool), GroupError> {
        let holder = join.instance.as_deref().and_then(|instance| self.group.holder_of(instance)).cloned();
        match (&join.member, holder) {
            (Some(id), Some(holder)) if *id != holder => Err(GroupError::FencedInstance),
            (Some(_), None) if join.instance.is_some() => Err(GroupError::UnknownMember),
            (Some(id), _) if self.group.members.contains_key(id) => Ok((id.clone(), false)),
            (None, Some(holder)) => {
                if let Some(member) = self.group.members.remove(&holder) {
                    self.group.members.insert(join.new_id.clone(), member);
                }
                let replaced = Note::Replaced { old: holder.clone(), new: join.new_id.clone() };
                self.effects.extend([Effect::Forget(holder), Effect::Note(replaced)]);
                Ok((join.new_id.clone(), false))
            }
            (None, None) if join.instance.is_none() && join.id_first => Err(GroupError::MemberIdRequired(join.new_id.clone())),
            (_, _) if self.group.members.len() >= self.rules.max_members => Err(GroupError::GroupFull),
            (named, _) => {
                let id = named.clone().unwrap_or_else(|| join.new_id.clone());
                self.group.members.insert(id.clone(), Member { instance: join.instance.clone(), ..Member::default() });
                self.effects.push(Effect::Note(Note::Added(id.clone())));
                Ok((id, true))
            }
        }
    }

    /// True if it wants to read something else now.
    fn update_classic(&mut self, join: &Join, id: &MemberId, subscription: Subscription) -> bool {
        let Some(member) = self.group.members.get_mut(id) else { return false };
        let mut names = subscription.topics;
        names.sort();
        names.dedup();
        let changed = member.names != names || member.pattern.is_some();
        (member.names, member.pattern) = (names, None);
        member.rebalance_timeout = join.rebalance_timeout;
        (member.client_id, member.client_host) = (Arc::clone(&join.client_id), Arc::clone(&join.client_host));
        member.classic = Some(ClassicSide { protocols: join.protocols.clone(), session_timeout: join.session_timeout, rejoin_by: None });
        changed
    }

    pub(super) fn sync(&mut self, sync: &Sync) {
        let assigned = self.group.syncs(sync);
        if assigned.is_ok() {
            self.renew(&sync.member);
        }
        self.answer(assigned.map(Reply::Assigned));
    }
}

impl Member {
    fn classic_protocol(&self) -> Option<Arc<str>> {
        self.classic.as_ref()?.protocols.first().map(|protocol| Arc::clone(&protocol.name))
    }
}

impl Catalog {
    /// Partitions that exist.
    pub(in crate::group) fn logs(&self, named: &Named) -> Assignment {
        let logs = |(name, partitions): (&Arc<str>, &std::collections::BTreeSet<i32>)| {
            let known = self.0.get(name).copied();
            let there = partitions.iter().copied().filter(move |p| known.is_some_and(|(_, count)| (0..count).contains(p)));
            there.filter_map(move |p| Some(TopicPartition::new(known?.0, p))).collect::<Vec<_>>()
        };
        named.iter().flat_map(logs).collect()
    }
}

impl ConsumerGroup {
    /// The topics it knows.
    pub(super) fn catalog(&self) -> Catalog {
        Catalog(self.topics.clone())
    }

    /// The same by name.
    pub(in crate::group) fn named(&self, assignment: &Assignment) -> Named {
        let name = |(name, (id, _)): (&Arc<str>, &(crate::types::TopicId, i32))| (*id, Arc::clone(name));
        let names: std::collections::BTreeMap<_, _> = self.topics.iter().map(name).collect();
        assignment.topics().filter_map(|(topic, partitions)| Some((Arc::clone(names.get(&topic)?), partitions.clone()))).collect()
    }

    /// Of the classic protocols a member offers, one at least must be known to all others.
    fn admissible(&self, join: &Join) -> Result<Subscription, GroupError> {
        let others = || self.members.iter().filter(|(id, _)| Some(*id) != join.member.as_ref()).filter_map(|(_, m)| m.classic.as_ref());
        let known = |name: &str| others().all(|classic| classic.protocols.iter().any(|protocol| &*protocol.name == name));
        let first = join.protocols.first().filter(|_| &*join.protocol_type == CONSUMER_PROTOCOL);
        let agrees = join.protocols.iter().any(|protocol| known(&protocol.name));
        let read = first.filter(|_| agrees).and_then(|protocol| subscription::subscription(protocol.metadata.clone()));
        read.ok_or(GroupError::InconsistentProtocol)
    }

    fn syncs(&self, sync: &Sync) -> Result<Assigned, GroupError> {
        let member = self.classic_member(&sync.member, sync.instance.as_deref(), sync.generation)?;
        let protocol = member.classic_protocol();
        if sync.protocol.is_some() && sync.protocol != protocol {
            return Err(GroupError::InconsistentProtocol);
        }
        // One that has to give up something has joined already: it is told what it keeps.
        if member.epoch < self.epoch && !matches!(member.progress, Progress::Unrevoked { .. }) {
            return Err(GroupError::RebalanceInProgress);
        }
        let assignment = subscription::encode_assignment(&self.named(&member.assigned));
        Ok(Assigned { protocol_type: Some(CONSUMER_PROTOCOL.into()), protocol, assignment })
    }

    fn classic_member(&self, id: &MemberId, instance: Option<&str>, generation: i32) -> Result<&Member, GroupError> {
        self.check_member(id, instance)?;
        let member = self.members.get(id).filter(|m| m.classic.is_some()).ok_or(GroupError::UnknownMember)?;
        if generation == member.epoch { Ok(member) } else { Err(GroupError::IllegalGeneration) }
    }

    /// Heartbeat of a classic member. [`GroupError::RebalanceInProgress`] is a sign of life too.
    pub fn check_classic_heartbeat(&self, id: &MemberId, instance: Option<&str>, generation: i32) -> Result<(), GroupError> {
        let member = self.classic_member(id, instance, generation)?;
        let free = || {
            let held = |log| self.members.iter().any(|(other, m)| other != id && m.holds(log));
            member.target.iter().any(|log| !member.assigned.contains(log) && !held(log))
        };
        let moves = match member.progress {
            Progress::Stable => false,
            Progress::Unrevoked { .. } => true,
            Progress::Unreleased => free(),
        };
        if moves || member.epoch < self.epoch { Err(GroupError::RebalanceInProgress) } else { Ok(()) }
    }
}

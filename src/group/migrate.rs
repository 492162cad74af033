//! A group with members changes its protocol (KIP-848, online migration): upwards when the first member of the consumer protocol joins, downwards when
//! the last one goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::classic::{self, CONSUMER_PROTOCOL, ClassicGroup, Phase};
use super::consumer::{Assignment, Catalog, ClassicSide, ConsumerGroup, Member, Progress};
use super::effect::Effect;
use super::subscription;
use crate::types::{MemberId, Timestamp};

/// Which ways a group with members may go (Kafka's `group.consumer.migration.policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MigrationPolicy {
    #[default]
    Bidirectional,
    Upgrade,
    Downgrade,
    Disabled,
}

impl MigrationPolicy {
    /// Their names, in Kafka's words.
    pub const ALL: [(&'static str, MigrationPolicy); 4] = [
        ("bidirectional", MigrationPolicy::Bidirectional),
        ("upgrade", MigrationPolicy::Upgrade),
        ("downgrade", MigrationPolicy::Downgrade),
        ("disabled", MigrationPolicy::Disabled),
    ];

    #[must_use]
    pub fn named(name: &str) -> Option<MigrationPolicy> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, policy)| *policy)
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, policy)| *policy == self).map_or("", |(name, _)| name)
    }

    pub(super) fn upgrades(self) -> bool {
        matches!(self, MigrationPolicy::Bidirectional | MigrationPolicy::Upgrade)
    }

    pub(super) fn downgrades(self) -> bool {
        matches!(self, MigrationPolicy::Bidirectional | MigrationPolicy::Downgrade)
    }
}

/// Everybody keeps what it has. `None` if the group's members are no consumers, or do not say it in Kafka's way.
pub(super) fn upgrade(group: &ClassicGroup, catalog: &Catalog) -> Option<ConsumerGroup> {
    if group.protocol_type.as_deref() != Some(CONSUMER_PROTOCOL) {
        return None;
    }
    let mut taken = Assignment::default();
    let mut upgraded = ConsumerGroup { epoch: group.generation, since: group.since, ..ConsumerGroup::default() };
    for (id, member) in &group.members {
        let names = subscription::subscription(member.protocols.first()?.metadata.clone())?.topics;
        let had = catalog.logs(&subscription::assignment(member.assignment.clone())?);
        // A leader may have given one partition to two.
        let assigned = had.filter(|log| !taken.contains(log));
        assigned.iter().for_each(|log| taken.insert(log));
        for name in &names {
            if let Some(topic) = catalog.0.get(name) {
                upgraded.topics.insert(Arc::clone(name), *topic);
            }
        }
        upgraded.members.insert(id.clone(), upgraded_member(member, names, assigned, group.generation));
    }
    Some(upgraded)
}

fn upgraded_member(member: &classic::Member, mut names: Vec<Arc<str>>, assigned: Assignment, epoch: i32) -> Member {
    names.sort();
    names.dedup();
    let classic = ClassicSide { protocols: member.protocols.clone(), session_timeout: member.session_timeout, rejoin_by: None };
    Member {
        instance: member.instance.clone(),
        client_id: Arc::clone(&member.client_id),
        client_host: Arc::clone(&member.client_host),
        rebalance_timeout: member.rebalance_timeout,
        names,
        epoch,
        previous_epoch: epoch,
        target: assigned.clone(),
        assigned,
        progress: Progress::Stable,
        classic: Some(classic),
        ..Member::default()
    }
}

/// Whether only members of the classic protocol are left.
pub(super) fn is_classic(group: &ConsumerGroup) -> bool {
    !group.is_empty() && group.members.values().all(|m| m.classic.is_some())
}

/// Everybody keeps what it has until all have joined again, which they are told at once.
pub(super) fn downgrade(group: &ConsumerGroup, rules: &classic::Rules, now: Timestamp) -> (ClassicGroup, Vec<Effect>) {
    let member = |(id, m): (&MemberId, &Member)| {
        let classic = m.classic.clone()?;
        let member = classic::Member {
            instance: m.instance.clone(),
            client_id: Arc::clone(&m.client_id),
            client_host: Arc::clone(&m.client_host),
            rebalance_timeout: m.rebalance_timeout,
            session_timeout: classic.session_timeout,
            protocols: classic.protocols,
            assignment: subscription::encode_assignment(&group.named(&m.assigned)),
            joined: false,
            synced: true,
        };
        Some((id.clone(), member))
    };
    let members: BTreeMap<_, _> = group.members.iter().filter_map(member).collect();
    let downgraded = ClassicGroup {
        phase: Phase::Stable { deadline: None },
        since: now,
        generation: group.epoch,
        protocol_type: Some(CONSUMER_PROTOCOL.into()),
        leader: members.keys().next().cloned(),
        members,
        ..ClassicGroup::default()
    };
    classic::rebalance(downgraded, "the last member of the consumer protocol is gone", rules, now)
}

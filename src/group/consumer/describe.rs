//! A group as administrators see it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Assignor, ConsumerGroup, Member, Progress};
use crate::types::{MemberId, TopicId};

/// ConsumerGroupDescribe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerDescription {
    pub state: &'static str,
    pub epoch: i32,
    pub assignor: Assignor,
    pub members: Vec<ConsumerMember>,
    /// Names of the topics it reads.
    pub topics: BTreeMap<TopicId, Arc<str>>,
}

/// One member, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerMember {
    pub id: MemberId,
    pub member: Member,
}

impl ConsumerGroup {
    #[must_use]
    pub fn describe(&self) -> ConsumerDescription {
        let members = self.members.iter().map(|(id, member)| ConsumerMember { id: id.clone(), member: member.clone() });
        let topics = self.topics.iter().map(|(name, (id, _))| (*id, Arc::clone(name))).collect();
        ConsumerDescription { state: self.phase_name(), epoch: self.epoch, assignor: self.assignor, members: members.collect(), topics }
    }

    /// As Kafka calls it. (A target is computed at once, so nobody sees a group that is still "Assigning".)
    #[must_use]
    pub fn phase_name(&self) -> &'static str {
        let there = |m: &Member| m.progress == Progress::Stable && m.epoch == self.epoch;
        match self.members.values().all(there) {
            true if self.is_empty() => "Empty",
            true => "Stable",
            false => "Reconciling",
        }
    }
}

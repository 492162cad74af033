//! A group's row: which machine it belongs to, and its state as bytes.
//!
//! Layout: `version u8 = 1, kind u8, state`. What follows the kind is that machine's business.

use bytes::Bytes;

use super::GroupError;
use super::classic::{self, ClassicGroup};
use super::consumer::{self, ConsumerGroup, Heartbeat};
use super::effect::Effect;
use super::event::Event;
use super::migrate;
use super::settings::Rules;
use super::wire::{BodyError, Reader, Writer};
use crate::metastore::GroupLabel;
use crate::types::{MemberId, Timestamp};

const VERSION: u8 = 1;
const CLASSIC: u8 = 0;
const CONSUMER: u8 = 1;

/// As lists of groups call them.
pub(super) const CLASSIC_KIND: &str = "Classic";
pub(super) const CONSUMER_KIND: &str = "Consumer";

/// A group of either kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GroupState {
    Classic(ClassicGroup),
    Consumer(ConsumerGroup),
}

impl Default for GroupState {
    fn default() -> Self {
        GroupState::Classic(ClassicGroup::default())
    }
}

impl GroupState {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.byte(VERSION);
        match self {
            GroupState::Classic(group) => {
                out.byte(CLASSIC);
                classic::encode(group, &mut out);
            }
            GroupState::Consumer(group) => {
                out.byte(CONSUMER);
                consumer::encode(group, &mut out);
            }
        }
        out.finish()
    }

    /// Reads what [`GroupState::encode`] wrote. Texts and bytes share `body`.
    ///
    /// # Errors
    /// [`BodyError`] if it is something else; memory is taken only for what the bytes really hold.
    pub(super) fn decode(body: Bytes) -> Result<GroupState, BodyError> {
        let mut body = Reader::new(body);
        match body.byte()? {
            VERSION => {}
            unknown => return Err(BodyError::Version(unknown)),
        }
        let state = match body.byte()? {
            CLASSIC => GroupState::Classic(classic::decode(&mut body)?),
            CONSUMER => GroupState::Consumer(consumer::decode(&mut body)?),
            _ => return Err(BodyError::Nonsense("an unknown kind of group")),
        };
        body.finish()?;
        Ok(state)
    }

    /// One turn. A group without members becomes one of the protocol by which somebody joins; one with members may change its protocol too.
    pub(super) fn apply(self, event: &Event, rules: &Rules, now: Timestamp) -> (GroupState, Vec<Effect>) {
        match (self, event) {
            (GroupState::Classic(group), Event::Heartbeat(heartbeat)) if heartbeat.epoch == 0 => {
                upgrade(group, event, heartbeat, rules, now)
            }
            (GroupState::Consumer(group), Event::Join(_)) if group.is_empty() => begin_classic(group, event, rules, now),
            (GroupState::Classic(group), event) => {
                let (group, effects) = classic::apply(group, event, &rules.classic, now);
                (GroupState::Classic(group), effects)
            }
            (GroupState::Consumer(group), event) => {
                let (group, effects) = consumer::apply(group, event, &rules.consumer, now);
                downgrade_if_due(group, effects, rules, now)
            }
        }
    }

    /// Whether it is a member, or was given the id and is expected back.
    pub(super) fn has(&self, member: &MemberId) -> bool {
        match self {
            GroupState::Classic(group) => group.members.contains_key(member) || group.pending.contains(member),
            GroupState::Consumer(group) => group.members.contains_key(member),
        }
    }

    /// When it is to be looked at even if nobody asks.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        match self {
            GroupState::Classic(group) => group.deadline(),
            GroupState::Consumer(group) => group.deadline(),
        }
    }

    pub(super) fn empty_since(&self) -> Option<Timestamp> {
        match self {
            GroupState::Classic(group) => group.is_empty().then_some(group.since),
            GroupState::Consumer(group) => group.is_empty().then_some(group.since),
        }
    }

    pub(super) fn label(&self) -> GroupLabel {
        let (kind, phase, protocol_type) = match self {
            GroupState::Classic(group) => (CLASSIC_KIND, group.phase_name(), group.protocol_type.as_deref().unwrap_or_default()),
            GroupState::Consumer(group) => (CONSUMER_KIND, group.phase_name(), classic::CONSUMER_PROTOCOL),
        };
        GroupLabel { kind: kind.to_owned(), phase: phase.to_owned(), protocol_type: protocol_type.to_owned() }
    }

    /// Heartbeat of the classic protocol.
    pub(super) fn check_heartbeat(&self, member: &MemberId, instance: Option<&str>, generation: i32) -> Result<(), GroupError> {
        match self {
            GroupState::Classic(group) => group.check_heartbeat(member, instance, generation),
            GroupState::Consumer(group) => group.check_classic_heartbeat(member, instance, generation),
        }
    }

    /// OffsetCommit.
    pub(super) fn check_commit(&self, member: Option<&MemberId>, instance: Option<&str>, generation: i32) -> Result<(), GroupError> {
        match self {
            GroupState::Classic(group) => group.check_commit(member, instance, generation),
            GroupState::Consumer(group) => group.check_commit(member, generation),
        }
    }

    /// OffsetFetch. Groups of the classic protocol do not say who may look.
    pub(super) fn check_fetch(&self, member: Option<&MemberId>, epoch: i32) -> Result<(), GroupError> {
        match self {
            GroupState::Classic(_) => Ok(()),
            GroupState::Consumer(group) => group.check_fetch(member, epoch),
        }
    }

    pub(super) fn check_delete(&self) -> Result<(), GroupError> {
        match self {
            GroupState::Classic(group) => group.check_delete(),
            GroupState::Consumer(group) => group.check_delete(),
        }
    }

    /// OffsetDelete: of which of these topics the offsets must stay.
    pub(super) fn check_delete_offsets<'a>(&self, topics: impl Iterator<Item = &'a str>) -> Result<Vec<bool>, GroupError> {
        match self {
            GroupState::Classic(group) => {
                let subscribed = group.check_delete_offsets()?;
                Ok(topics.map(|topic| subscribed.contains(topic)).collect())
            }
            GroupState::Consumer(group) => Ok(topics.map(|topic| group.reads(topic)).collect()),
        }
    }
}

/// Somebody of the consumer protocol joins a classic group, which changes only if it lets them in.
fn upgrade(group: ClassicGroup, event: &Event, heartbeat: &Heartbeat, rules: &Rules, now: Timestamp) -> (GroupState, Vec<Effect>) {
    let Some(upgraded) = upgraded(&group, heartbeat, rules) else {
        return (GroupState::Classic(group), vec![Effect::Answer(Err(GroupError::NotFound))]);
    };
    let (new, effects) = consumer::apply(upgraded, event, &rules.consumer, now);
    let joined = new.members.contains_key(&heartbeat.member);
    (if joined { GroupState::Consumer(new) } else { GroupState::Classic(group) }, effects)
}

/// The group as one of the consumer protocol, if it may become one.
fn upgraded(group: &ClassicGroup, heartbeat: &Heartbeat, rules: &Rules) -> Option<ConsumerGroup> {
    if group.is_unused() {
        return Some(ConsumerGroup { epoch: group.generation, ..ConsumerGroup::default() });
    }
    let catalog = heartbeat.catalog.as_deref().filter(|_| rules.migration.upgrades())?;
    migrate::upgrade(group, catalog)
}

/// Somebody of the classic protocol joins an empty group, which changes only if it lets them in.
fn begin_classic(group: ConsumerGroup, event: &Event, rules: &Rules, now: Timestamp) -> (GroupState, Vec<Effect>) {
    let new = ClassicGroup { generation: group.epoch, since: group.since, ..ClassicGroup::default() };
    let (new, effects) = classic::apply(new, event, &rules.classic, now);
    (if new.is_unused() { GroupState::Consumer(group) } else { GroupState::Classic(new) }, effects)
}

fn downgrade_if_due(group: ConsumerGroup, mut effects: Vec<Effect>, rules: &Rules, now: Timestamp) -> (GroupState, Vec<Effect>) {
    if !(rules.migration.downgrades() && migrate::is_classic(&group)) {
        return (GroupState::Consumer(group), effects);
    }
    let (group, more) = migrate::downgrade(&group, &rules.classic, now);
    effects.extend(more);
    (GroupState::Classic(group), effects)
}

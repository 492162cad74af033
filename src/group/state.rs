//! A group's row: which machine it belongs to, and its state as bytes.
//!
//! Layout: `version u8 = 1, kind u8, state`. What follows the kind is that machine's business.

use bytes::Bytes;

use super::classic::{self, ClassicGroup, Effect, Rules};
use super::turns::Event;
use super::wire::{BodyError, Reader, Writer};
use crate::metastore::GroupLabel;
use crate::types::{MemberId, Timestamp};

const VERSION: u8 = 1;
const CLASSIC: u8 = 0;

/// As lists of groups call it.
pub(super) const CLASSIC_KIND: &str = "classic";

/// A group of either kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GroupState {
    Classic(ClassicGroup),
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
            _ => return Err(BodyError::Nonsense("an unknown kind of group")),
        };
        body.finish()?;
        Ok(state)
    }

    /// One turn.
    pub(super) fn apply(self, event: &Event, rules: &Rules, now: Timestamp) -> (GroupState, Vec<Effect>) {
        match (self, event) {
            (GroupState::Classic(group), Event::Classic(event)) => {
                let (group, effects) = classic::apply(group, event, rules, now);
                (GroupState::Classic(group), effects)
            }
        }
    }

    /// Whether it is a member, or was given the id and is expected back.
    pub(super) fn has(&self, member: &MemberId) -> bool {
        match self {
            GroupState::Classic(group) => group.members.contains_key(member) || group.pending.contains(member),
        }
    }

    /// When it is to be looked at even if nobody asks.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        match self {
            GroupState::Classic(group) => group.deadline(),
        }
    }

    pub(super) fn empty_since(&self) -> Option<Timestamp> {
        match self {
            GroupState::Classic(group) => group.is_empty().then_some(group.since),
        }
    }

    pub(super) fn label(&self) -> GroupLabel {
        match self {
            GroupState::Classic(group) => GroupLabel {
                kind: CLASSIC_KIND.to_owned(),
                phase: group.phase_name().to_owned(),
                protocol_type: group.protocol_type.as_deref().unwrap_or_default().to_owned(),
            },
        }
    }
}

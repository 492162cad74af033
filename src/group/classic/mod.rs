//! The machine of a classic group: JoinGroup, SyncGroup, Heartbeat and LeaveGroup as Kafka's group coordinator understands them.
//!
//! ```text
//!            first member                all joined, or time is up              the leader's assignment
//!   Empty ----------------> Preparing -----------------------------> Completing -------------------------> Stable
//!     ^                        ^  |  nobody left                        |                                     |
//!     |                        |  +---------------> Empty               |  a member joins, leaves, ends,      |
//!     +------------------------+----------------------------------------+--  or changes its subscription -----+
//! ```
//! [`apply()`] never waits: a join or sync that must wait is noted in the state ([`Member::joined`], [`Member::synced`]) and its effect is
//! `Effect::Wait`; [`look`] finds in a later state what it is to be answered. The rules are those of Apache Kafka's `GroupMetadataManager` with
//! three deviations: the waiting agent beats for its member, so that a member whose agent died is noticed within its session and not after five
//! minutes; an initial rebalance whose members have all gone ends at once; a group with pending members is not full of them.

mod apply;
mod body;
mod check;
mod describe;
mod event;
mod join;
pub mod look;
mod rebalance;
mod sync;

pub use super::event::Event;
pub use apply::{apply, rebalance};
pub(super) use body::{decode, encode};
pub use describe::{Description, MemberDescription};
pub use event::{Assigned, Join, Joined, JoinedMember, Leaver, Protocol, Rules, Sync};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::types::{MemberId, Timestamp};

/// Chosen by the operator of a client, the same at each of its starts (KIP-345).
pub type InstanceId = Arc<str>;

/// The protocol type of consumers; others (Connect's) are opaque to a broker.
pub const CONSUMER_PROTOCOL: &str = "consumer";

/// A group as stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClassicGroup {
    pub phase: Phase,
    /// When the phase began.
    pub since: Timestamp,
    pub generation: i32,
    /// That of the first member; it stays when the group is empty. `None`: nobody ever joined.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol of this generation.
    pub protocol: Option<Arc<str>>,
    pub leader: Option<MemberId>,
    pub members: BTreeMap<MemberId, Member>,
    pub pending: BTreeSet<MemberId>,
}

/// Where the group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// No members.
    #[default]
    Empty,
    /// Members join, until all have or `deadline` passes.
    Preparing { deadline: Timestamp, gathering: Option<Gathering> },
    /// All have joined; the leader's assignment is awaited until `deadline`.
    Completing { deadline: Timestamp },
    /// Assigned. Who has not fetched its assignment by `deadline` is removed; `None`: all have.
    Stable { deadline: Option<Timestamp> },
}

/// The first rebalance of an empty group: more members are likely to come, so it is put off while they do (KIP-134).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gathering {
    /// Somebody came since the deadline was last set.
    pub grew: bool,
    /// How far from its setting the present deadline is.
    pub delay: Duration,
    /// How much the deadline can still be put off.
    pub remaining: Duration,
}

/// A member as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub instance: Option<InstanceId>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub rebalance_timeout: Duration,
    pub session_timeout: Duration,
    /// In order of preference; never empty.
    pub protocols: Vec<Protocol>,
    pub assignment: Bytes,
    /// It takes part in the rebalance that is being prepared.
    pub joined: bool,
    /// It has asked for its assignment in this generation.
    pub synced: bool,
}

impl Member {
    /// The bytes it brought for `protocol`; empty if it does not know it.
    #[must_use]
    pub fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let found = self.protocols.iter().find(|p| protocol.is_some_and(|name| name == &*p.name));
        found.map(|p| p.metadata.clone()).unwrap_or_default()
    }

    fn knows(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|p| &*p.name == protocol)
    }
}

impl ClassicGroup {
    /// The member that has this instance id.
    #[must_use]
    pub fn holder_of(&self, instance: &str) -> Option<&MemberId> {
        self.members.iter().find(|(_, m)| m.instance.as_deref() == Some(instance)).map(|(id, _)| id)
    }

    #[must_use]
    pub fn is_leader(&self, member: &MemberId) -> bool {
        self.leader.as_ref() == Some(member)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self.phase, Phase::Empty)
    }

    /// No members, and nobody was given an id.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.is_empty() && self.pending.is_empty()
    }

    /// When something is to happen even if nobody asks.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Empty => None,
            Phase::Preparing { deadline, .. } | Phase::Completing { deadline } => Some(deadline),
            Phase::Stable { deadline } => deadline,
        }
    }

    /// As Kafka calls it.
    #[must_use]
    pub fn phase_name(&self) -> &'static str {
        match self.phase {
            Phase::Empty => "Empty",
            Phase::Preparing { .. } => "PreparingRebalance",
            Phase::Completing { .. } => "CompletingRebalance",
            Phase::Stable { .. } => "Stable",
        }
    }

    /// Bytes that members and their leader brought.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.members.values().map(|m| protocol_bytes(&m.protocols) + m.assignment.len()).sum()
    }

    fn all_joined(&self) -> bool {
        self.pending.is_empty() && self.members.values().all(|m| m.joined)
    }

    fn all_synced(&self) -> bool {
        self.members.values().all(|m| m.synced)
    }

    /// The longest of its members'.
    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|m| m.rebalance_timeout).max().unwrap_or_default()
    }
}

fn protocol_bytes(protocols: &[Protocol]) -> usize {
    protocols.iter().map(|p| p.name.len() + p.metadata.len()).sum()
}

#[cfg(test)]
mod tests;

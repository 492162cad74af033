//! The machine of a group of the consumer protocol (KIP-848): members only send heartbeats, and the brokers assign.
//!
//! A member says what it wants to read and what it owns. Whenever subscriptions, topics or members change, the group's *epoch* rises and a new *target*
//! is computed for everybody at once ([`assign`]). Each member is led to its target at its own pace: first it gives up what the target
//! takes from it, and confirms; then it takes what the others have given up. A member's epoch says up to which group epoch it has
//! come; commits need the present one.
//!
//! ```text
//!   Stable --(target takes something)--> Unrevoked --(confirmed)--> Stable, or Unreleased --(the others let go)--> Stable
//! ```
//! Members of the classic protocol can be in the group too, while they are changed over one by one.
//!
//! The rules are those of Apache Kafka's `GroupMetadataManager` and `CurrentAssignmentBuilder`, with these deviations: the target is
//! computed in the turn that made it necessary; racks are not looked at; a heartbeat to a group that is not there any more is told that the
//! member is unknown, so that the client joins again by itself.

pub mod assign;
mod assignment;
mod body;
mod check;
mod classics;
mod describe;
mod heartbeat;
mod leave;
mod reconcile;
mod subscribe;

pub use assign::Assignor;
pub use assignment::Assignment;
pub(super) use body::{decode, encode};
pub use describe::{ConsumerDescription, ConsumerMember};
pub(super) use heartbeat::apply;
pub use subscribe::Catalog;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::classic::{InstanceId, Protocol};
use crate::types::{MemberId, Timestamp, TopicId, TopicPartition};

/// The epoch of a static member that has left and may come back.
pub const LEFT_FOR_NOW: i32 = -2;
/// The epoch by which a member leaves for good.
pub const LEAVES: i32 = -1;

/// Limits and delays the machine keeps.
#[derive(Debug, Clone)]
pub struct Rules {
    pub session_timeout: Duration,
    pub max_members: usize,
    /// Those that members may choose from; the first is taken if none does.
    pub assignors: Vec<Assignor>,
    /// Most bytes of one member's names and patterns.
    pub max_member_bytes: usize,
}

/// A group as stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConsumerGroup {
    pub epoch: i32,
    /// When it became empty.
    pub since: Timestamp,
    /// Subscribed topics that exist, with their number of partitions, when the target was computed.
    pub topics: BTreeMap<Arc<str>, (TopicId, i32)>,
    pub assignor: Assignor,
    pub members: BTreeMap<MemberId, Member>,
}

/// How far a member has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Progress {
    /// It has everything that its epoch's target gives it.
    #[default]
    Stable,
    /// It must give up something until the deadline.
    Unrevoked { deadline: Timestamp },
    /// Something of its target is still somebody else's.
    Unreleased,
}

/// A member as stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    pub instance: Option<InstanceId>,
    pub rack: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub rebalance_timeout: Duration,
    /// Topics it names, in order.
    pub names: Vec<Arc<str>>,
    pub pattern: Option<Arc<str>>,
    pub assignor: Option<Assignor>,
    pub epoch: i32,
    pub previous_epoch: i32,
    pub progress: Progress,
    /// What it may read.
    pub assigned: Assignment,
    /// What it was told to give up.
    pub revoking: Assignment,
    /// What it is to have in the end.
    pub target: Assignment,
    /// Of a member that still speaks the classic protocol.
    pub classic: Option<ClassicSide>,
}

/// What a member of the classic protocol has besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicSide {
    /// In order of preference; never empty.
    pub protocols: Vec<Protocol>,
    pub session_timeout: Duration,
    /// It has to join again until then; `None`: it has.
    pub rejoin_by: Option<Timestamp>,
}

/// ConsumerGroupHeartbeat. What is `None` has not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    pub member: MemberId,
    /// 0: joins. [`LEAVES`], [`LEFT_FOR_NOW`].
    pub epoch: i32,
    pub instance: Option<InstanceId>,
    pub rack: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub rebalance_timeout: Option<Duration>,
    /// If the group has another one than the rules say.
    pub session_timeout: Option<Duration>,
    pub names: Option<Vec<Arc<str>>>,
    /// An empty one means none.
    pub pattern: Option<Arc<str>>,
    pub assignor: Option<Assignor>,
    pub owned: Option<Assignment>,
    /// The topics there are; `None` if they are those the group knows.
    pub catalog: Option<Arc<Catalog>>,
}

impl Heartbeat {
    /// Everything is said, so everything is answered.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let subscribes = self.names.is_some() || self.pattern.is_some();
        self.epoch == 0 || (self.rebalance_timeout.is_some() && subscribes && self.owned.is_some())
    }
}

/// The way ConsumerGroupHeartbeat succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beaten {
    pub member: MemberId,
    pub epoch: i32,
    /// What the member may read, if that is to be said.
    pub assignment: Option<Assignment>,
}

impl ConsumerGroup {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The member that has this instance id.
    #[must_use]
    pub fn holder_of(&self, instance: &str) -> Option<&MemberId> {
        self.members.iter().find(|(_, m)| m.instance.as_deref() == Some(instance)).map(|(id, _)| id)
    }

    /// When something is to happen even if nobody asks.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.members.values().filter_map(Member::deadline).min()
    }
}

impl Member {
    fn deadline(&self) -> Option<Timestamp> {
        let rejoins = self.classic.as_ref().and_then(|classic| classic.rejoin_by);
        match self.progress {
            Progress::Unrevoked { deadline } => Some(rejoins.map_or(deadline, |by| by.min(deadline))),
            Progress::Stable | Progress::Unreleased => rejoins,
        }
    }

    /// What nobody else may have yet.
    fn holds(&self, log: TopicPartition) -> bool {
        self.assigned.contains(log) || self.revoking.contains(log)
    }
}

#[cfg(test)]
mod tests;

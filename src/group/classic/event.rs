//! What goes into the machine and what comes out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::InstanceId;
use crate::group::GroupError;
use crate::types::{MemberId, Timestamp};

/// Limits and delays the machine keeps.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// How long the first rebalance of an empty group waits for more members.
    pub initial_delay: Duration,
    /// Most members of a group.
    pub max_members: usize,
    /// Most bytes of one member's subscriptions.
    pub max_member_bytes: usize,
    /// Most bytes of all subscriptions and assignments of a group.
    pub max_group_bytes: usize,
}

/// One assignor a member offers, and what it tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    pub name: Arc<str>,
    pub metadata: Bytes,
}

/// Something that happens to a group.
#[derive(Debug, Clone)]
pub enum Event {
    Join(Join),
    Sync(Sync),
    Leave(Vec<Leaver>),
    /// Time passed: deadlines may be over.
    Tick,
    /// When the sessions of members and pending members end.
    Sessions(Vec<(MemberId, Timestamp)>),
}

/// JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// `None`: the client has none yet.
    pub member: Option<MemberId>,
    /// What a new member is to be called. Made by the caller, since chance does not live here.
    pub new_id: MemberId,
    pub instance: Option<InstanceId>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    pub protocol_type: Arc<str>,
    pub protocols: Vec<Protocol>,
    /// The client expects to be told its id and sent back with it (version 4 and later).
    pub id_first: bool,
    /// The client can be told that it leads and need not assign (version 9 and later).
    pub may_skip_assignment: bool,
}

/// SyncGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    pub generation: i32,
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    /// What the leader decided; empty from the others.
    pub assignments: Vec<(MemberId, Bytes)>,
}

/// One member of a LeaveGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaver {
    /// `None`: whoever has the instance id.
    pub member: Option<MemberId>,
    pub instance: Option<InstanceId>,
}

/// The way JoinGroup succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    pub member: MemberId,
    pub generation: i32,
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    pub leader: MemberId,
    /// The leader keeps the assignment of before.
    pub skip_assignment: bool,
    /// For the leader only.
    pub members: Vec<JoinedMember>,
}

/// A member as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    pub metadata: Bytes,
}

/// The way SyncGroup succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    pub assignment: Bytes,
}

/// An answer that is no refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Joined(Joined),
    Assigned(Assigned),
    /// One for each leaver, in order.
    Left(Vec<Result<(), GroupError>>),
    /// Nobody asked.
    Done,
}

/// What is to be done once the new state is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Answer(Result<Reply, GroupError>),
    /// This member's request waits: [`super::look`] finds its answer in a later state.
    Wait(MemberId),
    /// The member's session begins anew and lasts so long. Stored together with the state.
    Renew(MemberId, Duration),
    /// The member has no session any more. Stored together with the state.
    Forget(MemberId),
    /// Waiters anywhere may have their answer.
    Announce,
    /// For the log and the metrics.
    Note(Note),
}

/// What happened, in a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    Added(MemberId),
    /// With the reason.
    Removed(MemberId, &'static str),
    /// A static member came back under a new id.
    Replaced {
        old: MemberId,
        new: MemberId,
    },
    /// With the reason.
    Rebalancing(&'static str),
    Generation(i32),
    Stable(i32),
    Emptied,
}

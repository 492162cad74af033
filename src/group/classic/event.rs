//! What goes into the machine and what comes out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::InstanceId;
use crate::types::MemberId;

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

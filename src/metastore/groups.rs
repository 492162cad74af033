//! Groups as rows: a state nobody here can read, stored only over the one it was made from; sessions of members beside it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::Result;
use crate::types::{GroupId, MemberId, Timestamp, TopicPartition};

/// Which state of a group's row. A version is given once in the life of a metastore, whatever becomes of the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GroupVersion(pub u64);

impl GroupVersion {
    /// There is no row.
    pub const NONE: GroupVersion = GroupVersion(0);
}

/// A group's row, and what time it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRow {
    pub version: GroupVersion,
    /// Empty without a row.
    pub state: Bytes,
    /// By the metastore's clock.
    pub now: Timestamp,
}

/// What lists of groups show, in Kafka's words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupLabel {
    pub kind: String,
    pub phase: String,
    pub protocol_type: String,
}

/// What takes the place of a group's row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupChange {
    pub state: Bytes,
    pub label: GroupLabel,
    /// When it is to be looked at even if nobody asks.
    pub due: Option<Timestamp>,
    /// Since when it has no members; `None` while it has.
    pub empty_since: Option<Timestamp>,
    /// Members whose session begins anew and lasts so long. None of them is also in `forget`.
    pub renew: Vec<(MemberId, Duration)>,
    /// Members that have no session any more.
    pub forget: Vec<MemberId>,
    /// Agents with waiters are told.
    pub announce: bool,
}

/// A sign of life of a member.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Beat {
    pub group: GroupId,
    pub member: MemberId,
}

/// How sweeps go.
#[derive(Debug, Clone, Copy)]
pub struct GroupSweep {
    /// One agent sweeps in each of these.
    pub period: Duration,
    /// Sessions are over so much later than they say, because beats are written so much later than they come.
    pub grace: Duration,
    /// If nobody swept for so long, beats may not have been written either: all sessions begin anew.
    pub lapse: Duration,
    /// Most groups and most members found.
    pub limit: usize,
}

/// What a sweep found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupsSwept {
    /// Groups whose [`GroupChange::due`] has come.
    pub due: Vec<GroupId>,
    /// Members whose session is over, with its end.
    pub silent: Vec<(Beat, Timestamp)>,
}

/// States and sessions of groups. Offsets are in [`super::Offsets`].
#[async_trait]
pub trait Groups: Send + Sync + std::fmt::Debug {
    /// In the order asked.
    async fn load_groups(&self, groups: &[GroupId]) -> Result<Vec<GroupRow>>;

    /// Stores the change over the row of version `expected`; `None` if the row has another one by now.
    async fn store_group(&self, group: &GroupId, expected: GroupVersion, change: &GroupChange) -> Result<Option<GroupVersion>>;

    /// Forgets the group with its sessions and offsets; false if its row has another version than `expected`.
    async fn delete_group(&self, group: &GroupId, expected: GroupVersion) -> Result<bool>;

    /// All groups in order of name; those that only have offsets have an empty label.
    async fn list_groups(&self) -> Result<Vec<(GroupId, GroupLabel)>>;

    /// Begins the sessions of these members anew; members without a session stay without. Of the groups in `known`, returns those whose version is another,
    /// with that. One statement.
    async fn beat(&self, beats: &[Beat], known: &[(GroupId, GroupVersion)]) -> Result<Vec<(GroupId, GroupVersion)>>;

    /// What is due, if it is this agent's turn to look.
    async fn sweep_groups(&self, sweep: GroupSweep) -> Result<Option<GroupsSwept>>;

    /// Forgets offsets that were committed at least `retention` ago by groups that have no row, or are empty for so long; and rows of groups that
    /// are empty for `linger`, without sessions and without offsets. At most `limit` of each; true if more are left.
    async fn expire_groups(&self, retention: Duration, linger: Duration, limit: usize) -> Result<bool>;

    /// Forgets these offsets; false if the group's row has another version than `expected`.
    async fn delete_offsets(&self, group: &GroupId, expected: GroupVersion, logs: &[TopicPartition]) -> Result<bool>;
}

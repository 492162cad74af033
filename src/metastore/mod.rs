//! Everything that is not record data: topics, write events, segments, heads, producer states, groups and their offsets, leases.
//!
//! Three metastores: [`postgres`] for agents, [`sqlite`] for one process, [`memory`] the reference model; [`flaky`] wraps any
//! of them. One suite, `contract`, runs against all. A metastore stores and finds; it decides nothing. Where a
//! change depends on what is there, the caller hands in the decision ([`Decide`]) and the metastore runs it inside its own
//! transaction, so that Kafka's rules stand once, in `partition`.
//!
//! Words:
//! - a *write event* says that an object holds these runs; it is inserted once and is *pending* until a round takes it;
//! - a *round* takes pending events in order, asks for a decision and stores segments, heads, producer states and
//!   verdicts in one transaction; one round runs at a time over all agents;
//! - a *verdict* says for each batch of an object what became of it.
//!
//! Time: [`crate::partition::Snapshot::now`], leases and expiry use the metastore's own clock, never an agent's.

mod announce;
#[cfg(test)]
mod contract;
mod error;
pub mod flaky;
mod groups;
mod identity;
mod leases;
pub mod memory;
pub mod postgres;
mod round;
mod schema;
pub mod sqlite;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use error::MetaError;
pub use groups::{Beat, GroupChange, GroupLabel, GroupRow, GroupSweep, GroupVersion, Groups, GroupsSwept};
pub use identity::{Identity, Members};
pub use leases::PeerSecrets;

use crate::metrics::PoolUse;
use crate::partition::{Decisions, ObjectVerdict, ProducerKey, ProducerState, Snapshot, TrimRefused, TrimTo};
use crate::types::{GroupId, Head, NodeId, ObjectId, Offset, ProducerId, Segment, Timestamp, TopicId, TopicName, TopicPartition};

pub type Result<T> = std::result::Result<T, MetaError>;

/// Configurations that were set, by name.
pub type Configs = BTreeMap<String, String>;

/// A topic as stored. `configs` holds only what was set; defaults are the handlers' business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pub id: TopicId,
    pub name: TopicName,
    /// Number of partitions; their indexes are 0 to this, exclusive.
    pub partitions: i32,
    pub configs: Configs,
    pub created_at: Timestamp,
}

/// What became of a topic's creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Creation {
    Created(Topic),
    /// The name is taken, perhaps by another agent a moment ago.
    Exists(Topic),
}

/// What became of a topic's growth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Growth {
    Grown(Topic),
    /// It has as many partitions already, or more.
    NotLarger(Topic),
    /// There is no such topic.
    Gone,
}

/// What became of a change of configurations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reconfiguration {
    Done(Topic),
    /// They are not what was expected: somebody else changed them. Nothing was changed.
    Outdated(Topic),
    /// There is no such topic.
    Gone,
}

/// Which topics to find.
#[derive(Debug, Clone)]
pub enum TopicQuery {
    All,
    Names(Vec<TopicName>),
    Ids(Vec<TopicId>),
}

/// Topics and their configurations.
#[async_trait]
pub trait Topics: Send + Sync + std::fmt::Debug {
    /// Creates the topic with all its partitions empty, or finds the one that has the name. The id is the caller's choice.
    async fn create_topic(&self, id: TopicId, name: &TopicName, partitions: i32, configs: &BTreeMap<String, String>) -> Result<Creation>;

    /// The topics that exist, in order of name. Unknown names and ids are simply absent.
    async fn find_topics(&self, query: &TopicQuery) -> Result<Vec<Topic>>;

    /// Gives the topic `partitions` partitions in all; the new ones are empty.
    async fn grow_topic(&self, id: TopicId, partitions: i32) -> Result<Growth>;

    /// Sets the topic's configurations to exactly `configs`, if they are exactly `expected`.
    async fn replace_topic_configs(&self, id: TopicId, expected: &Configs, configs: &Configs) -> Result<Reconfiguration>;

    /// Forgets the topic, its heads, producer states and group offsets at once; its segments are forgotten a piece at a
    /// time by [`Topics::sweep_deleted_topics`]. False if there was none.
    async fn delete_topic(&self, id: TopicId) -> Result<bool>;

    /// Removes up to `limit` segments of deleted topics; true if more are left.
    async fn sweep_deleted_topics(&self, limit: usize) -> Result<bool>;
}

/// One object's write event, before it is inserted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteEvent {
    pub object: ObjectId,
    /// The agent that wrote it.
    pub node: NodeId,
    /// Length of the whole object in bytes.
    pub object_bytes: u64,
    /// The packed list of runs (`records::object`, docs/OBJECT_FORMAT.md).
    pub index: Bytes,
    /// The object itself, if it is stored with its event and nowhere else; at most [`Log::inline_max`] bytes.
    pub inlined: Option<Bytes>,
}

/// Decides a round. Pure; may be called again for the same events after a lost transaction.
pub type Decide = Arc<dyn Fn(Snapshot) -> Decisions + Send + Sync>;

/// How much one round takes.
#[derive(Debug, Clone, Copy)]
pub struct RoundLimits {
    /// Pending events taken at most.
    pub events: usize,
}

/// What a round did.
#[derive(Debug, Clone)]
pub enum Round {
    /// Another agent is running one.
    Busy,
    Done(RoundReport),
}

/// Write events that no round has taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PendingEvents {
    pub count: u64,
    /// Age of the oldest, by the metastore's clock; `None` if there is none.
    pub oldest: Option<Duration>,
    /// Events that could not be read and wait for a human; not part of `count`.
    pub set_aside: u64,
}

/// What everyone who waits wants to know about a finished round.
#[derive(Debug, Clone, Default)]
pub struct RoundReport {
    /// Events taken.
    pub events: usize,
    /// Events were left, because a limit (on their number, or on the size of their indexes) ended the taking: run the next
    /// round at once.
    pub more: bool,
    /// Segments written.
    pub segments: Vec<Segment>,
    /// The new ends of every log that changed.
    pub heads: Vec<(TopicPartition, Head)>,
    /// Verdicts decided (or completed, for parked batches).
    pub verdicts: Vec<(ObjectId, ObjectVerdict)>,
    /// When the next parked batch falls due, on the metastore's clock, as a duration from now.
    pub next_due: Option<Duration>,
    /// Age of the oldest event taken, by the metastore's clock.
    pub oldest_event_age: Option<Duration>,
}

/// Where a fetch begins in one log, and how much it may read.
#[derive(Debug, Clone, Copy)]
pub struct SegmentQuery {
    pub log: TopicPartition,
    /// The first segment returned is the one that holds this offset, or the next one if it is in a gap.
    pub from: Offset,
    /// Segments are returned until their bytes reach this; at least one if there is one.
    pub max_bytes: u64,
    /// And never more rows than this.
    pub max_segments: usize,
}

/// A log's head and the segments a query found in it; heads and segments are of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogView {
    pub head: Head,
    pub segments: Vec<Segment>,
}

/// Write events, rounds, segments and heads.
#[async_trait]
pub trait Log: Send + Sync + std::fmt::Debug {
    /// Inserts write events in this order, all or none. After [`MetaError::Indeterminate`] ask [`Log::find_events`].
    ///
    /// While another instance than `writer` holds the lease of a node id that they name, that is [`MetaError::Unavailable`]: who has lost its id to another
    /// does not act under it, however late it begins.
    async fn append(&self, events: &[WriteEvent], writer: [u8; 16]) -> Result<()>;

    /// The longest object that may be stored with its event, in bytes. 0: every object is stored by itself, before its event.
    fn inline_max(&self) -> u64 {
        0
    }

    /// Which of these objects have a write event, pending or decided.
    async fn find_events(&self, objects: &[ObjectId]) -> Result<Vec<ObjectId>>;

    /// The verdicts known so far. An object is absent while its event is pending.
    async fn verdicts(&self, objects: &[ObjectId]) -> Result<Vec<(ObjectId, ObjectVerdict)>>;

    /// Runs one round: takes the lock, reads pending events and what they touch, decides, stores, commits, announces.
    async fn run_round(&self, limits: RoundLimits, decide: &Decide) -> Result<Round>;

    /// What no round has taken yet.
    async fn pending_events(&self) -> Result<PendingEvents>;

    /// Heads in the order asked; `None` where topic or partition does not exist.
    async fn heads(&self, logs: &[TopicPartition]) -> Result<Vec<Option<Head>>>;

    /// Segments in the order asked; `None` where topic or partition does not exist. One statement, one index probe a query.
    async fn segments(&self, queries: &[SegmentQuery]) -> Result<Vec<Option<LogView>>>;

    /// The first segment (lowest offsets) whose `max_timestamp_so_far` is at least `at`: the first that can hold a record that is not older.
    /// Costs a few index probes, whatever the length of the log.
    async fn first_segment_since(&self, log: TopicPartition, at: Timestamp) -> Result<Option<Segment>>;

    /// Forgets producer states that were not used for `idle`, at most `limit`; true if more are left.
    async fn expire_producers(&self, idle: Duration, limit: usize) -> Result<bool>;

    /// Reserves `count` producer ids nobody else gets; returns the first.
    async fn reserve_producer_ids(&self, count: u32) -> Result<ProducerId>;
}

/// Objects that were stored with their events, for whoever reads objects. Where there can be none ([`Log::inline_max`]), none is found.
#[async_trait]
pub trait InlinedObjects: Send + Sync + std::fmt::Debug {
    /// The whole object; `None` if it was not stored with its event, or is deleted.
    async fn inlined_object(&self, _object: ObjectId) -> Result<Option<Bytes>> {
        Ok(None)
    }

    /// Removes objects; one that is not there counts as removed.
    async fn delete_inlined(&self, _objects: &[ObjectId]) -> Result<()> {
        Ok(())
    }
}

/// Decides where a log begins after its oldest records were deleted. Pure.
pub type DecideTrim = Arc<dyn Fn(&Head, TrimTo) -> std::result::Result<Head, TrimRefused> + Send + Sync>;

/// Where a log begins after it was trimmed, or why it was not; `None` if it does not exist.
pub type Trimmed = Option<std::result::Result<Head, TrimRefused>>;

/// What administration asks of logs.
#[async_trait]
pub trait LogAdmin: Send + Sync + std::fmt::Debug {
    /// Moves the starts of logs as `decide` says, between rounds; answers in the order asked. The segments left behind are forgotten a piece at a time by
    /// [`LogAdmin::sweep_trimmed_segments`].
    async fn trim_logs(&self, trims: &[(TopicPartition, TrimTo)], decide: &DecideTrim) -> Result<Vec<Trimmed>>;

    /// Removes up to `limit` segments that lie below the start of their log; true if more are left.
    async fn sweep_trimmed_segments(&self, limit: usize) -> Result<bool>;

    /// Bytes of all segments of each log of these topics that has any, in order of log.
    async fn log_sizes(&self, topics: &[TopicId]) -> Result<Vec<(TopicPartition, u64)>>;

    /// The producers each of these logs knows, in order of log and producer; at most `limit` in all.
    async fn producers(&self, logs: &[TopicPartition], limit: usize) -> Result<Vec<(ProducerKey, ProducerState)>>;
}

/// Configurations of groups, which may be set before a group exists.
#[async_trait]
pub trait GroupConfigs: Send + Sync + std::fmt::Debug {
    /// What is set for each of these groups, in the order asked; empty where nothing is.
    async fn group_configs(&self, groups: &[GroupId]) -> Result<Vec<Configs>>;

    /// Sets the group's configurations to exactly `configs`, if they are exactly `expected`; false if they are not.
    async fn replace_group_configs(&self, group: &GroupId, expected: &Configs, configs: &Configs) -> Result<bool>;

    /// The groups for which something is set, in order.
    async fn configured_groups(&self) -> Result<Vec<GroupId>>;
}

/// An offset a group committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    pub offset: Offset,
    /// -1 if the client gave none.
    pub leader_epoch: i32,
    /// Exactly the bytes the client gave; `None` for null.
    pub metadata: Option<Bytes>,
}

/// Offsets committed by groups.
#[async_trait]
pub trait Offsets: Send + Sync + std::fmt::Debug {
    /// Stores all of them or none; false, and none, if the group's row has another version than `expected`. Whoever may commit was decided from that row.
    async fn commit_offsets(&self, group: &GroupId, expected: GroupVersion, offsets: &[(TopicPartition, CommittedOffset)]) -> Result<bool>;

    /// What the group committed: for `logs`, or for every log it ever committed with `None`.
    async fn committed_offsets(&self, group: &GroupId, logs: Option<&[TopicPartition]>) -> Result<Vec<(TopicPartition, CommittedOffset)>>;
}

/// An agent as the others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    pub node: NodeId,
    /// What clients know its advertised address by: its own node id, or that of the first of the agents that share the address.
    pub broker: NodeId,
    /// Made anew at every start: two processes never share it.
    pub instance: [u8; 16],
    pub advertised_host: String,
    pub advertised_port: u16,
    /// Where other agents reach its cache ("host:port"), if it shares one.
    pub peer_address: Option<String>,
    pub rack: Option<String>,
    pub version: String,
}

#[cfg(test)]
impl Agent {
    /// An agent for tests, alone at its address, without a rack or a cache to share.
    pub(crate) fn sample(number: i32, host: &str) -> Agent {
        Agent {
            node: NodeId(number),
            broker: NodeId(number),
            instance: [number as u8; 16],
            advertised_host: host.to_owned(),
            advertised_port: 9092,
            peer_address: None,
            rack: None,
            version: String::new(),
        }
    }
}

/// What became of a request for a node id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseOutcome {
    /// To this agent, with its ids.
    Granted(Agent),
    /// Another live agent holds the id that was asked for.
    Held(Agent),
}

/// Leases of node ids, by the metastore's clock.
#[async_trait]
pub trait Leases: Send + Sync + std::fmt::Debug {
    /// The cluster's id, made once by whoever asks first: 22 characters of URL-safe base64, as Kafka's are.
    async fn cluster_id(&self, proposal: &str) -> Result<String>;

    /// Leases `wanted`, or the lowest free id from 0. `agent.node` is ignored; `agent.broker` is what its address was
    /// known by before, -1 if nothing. The broker id of an address stays while any agent lives there,
    /// and is nobody's node id elsewhere, unless that one is wanted.
    async fn acquire_lease(&self, wanted: Option<NodeId>, agent: &Agent, ttl: Duration) -> Result<LeaseOutcome>;

    /// Prolongs the lease; false if it has ended, and is to be acquired again.
    async fn renew_lease(&self, node: NodeId, instance: [u8; 16], ttl: Duration) -> Result<bool>;

    /// Gives the lease up at once.
    async fn release_lease(&self, node: NodeId, instance: [u8; 16]) -> Result<()>;

    /// Agents whose lease is valid, in order of node id.
    async fn live_agents(&self) -> Result<Vec<Agent>>;

    /// What peers prove with that they belong to this cluster. If there is nothing yet, it is `proposal` from now on.
    async fn peer_secrets(&self, proposal: [u8; 32]) -> Result<PeerSecrets>;

    /// Makes `next` the present secret; the one before is still accepted. Nothing happens if it is that already.
    async fn rotate_peer_secret(&self, next: [u8; 32]) -> Result<PeerSecrets>;
}

/// What is announced to all agents.
#[derive(Debug, Clone)]
pub enum Change {
    /// A round was committed: these logs have new ends.
    Heads(Vec<(TopicPartition, Head)>),
    /// A group has a new state, and waiters may find their answer in it.
    Group { group: GroupId, version: GroupVersion },
    /// Something was committed, but what changed was not said, or announcements may have been missed: look.
    Unknown,
}

/// Announcements of committed rounds and changed groups. They can be lost: whoever waits also looks from time to time.
#[async_trait]
pub trait Changes: Send + Sync + std::fmt::Debug {
    /// The stream of announcements from now on. It ends only with the process; reconnects show as [`Change::Unknown`]. Metastores
    /// of a single process announce nothing here, since the one round reports to its caller.
    fn subscribe_changes(&self) -> tokio::sync::mpsc::Receiver<Change>;
}

/// All of it: what `app` builds and hands out.
#[async_trait]
pub trait Metastore: Topics + Log + InlinedObjects + LogAdmin + Offsets + Groups + GroupConfigs + Leases + Changes {
    /// Fails unless the metastore can be reached and used now.
    async fn check(&self) -> Result<()>;

    /// Applies the schema's migrations, under a lock. Refuses a schema that is newer than this binary.
    async fn migrate(&self) -> Result<()>;

    /// Fails with a clear error unless the schema is the one this binary was built for.
    async fn check_schema(&self) -> Result<()>;

    /// Fails if the schema lacks something this binary needs. One that is newer passes: in an upgrade migrations come before binaries, and agents that
    /// run must not all stop serving at that moment.
    async fn check_migrations(&self) -> Result<()>;

    /// Waits for what is under way and closes all connections.
    async fn close(&self);

    /// What the start line says of it: kind and place, no secrets.
    fn describe(&self) -> String;

    /// How its connections are used; `None` where there are none to run out of.
    fn pool(&self) -> Option<PoolUse> {
        None
    }
}

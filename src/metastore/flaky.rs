//! A metastore that fails on purpose: before it did what it was told, or after.
//!
//! The second is the one that hurts: the change is committed and the caller gets [`MetaError::Indeterminate`]. Chance comes from the given [`Ids`],
//! so a seed can be replayed. A switch takes the whole metastore down and up for scripted tests.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc::Receiver;

use super::{
    Agent, Beat, Change, Changes, CommittedOffset, Configs, Creation, Decide, DecideTrim, GroupChange, GroupConfigs, GroupLabel, GroupRow,
    GroupSweep, GroupVersion, Groups, GroupsSwept, Growth, InlinedObjects, LeaseOutcome, Leases, Log, LogAdmin, LogView, MetaError,
    Metastore, Offsets, PeerSecrets, PendingEvents, Reconfiguration, Result, Round, RoundLimits, SegmentQuery, Topic, TopicQuery, Topics,
    Trimmed, WriteEvent,
};
use crate::clock::Ids;
use crate::partition::{ObjectVerdict, ProducerKey, ProducerState, TrimTo};
use crate::types::{GroupId, Head, NodeId, ObjectId, ProducerId, Segment, Timestamp, TopicId, TopicName, TopicPartition};

/// How often each thing goes wrong, in thousandths.
#[derive(Debug, Clone, Copy, Default)]
pub struct Odds {
    /// It does not happen, and the caller learns that ([`MetaError::Unavailable`]).
    pub before: u16,
    /// It happens, but the caller does not learn that ([`MetaError::Indeterminate`]; for a look-up [`MetaError::Unavailable`]).
    pub after: u16,
    /// It takes longer, by up to `max_delay` of tokio's time.
    pub delay: u16,
    pub max_delay: Duration,
}

/// The operations whose odds can differ from the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Append,
    Round,
    /// Every other change.
    Change,
    /// Every look-up.
    Look,
}

/// A wrapper round any metastore.
#[derive(Debug)]
pub struct Flaky {
    inner: Arc<dyn Metastore>,
    ids: Arc<dyn Ids>,
    odds: Mutex<BTreeMap<Operation, Odds>>,
    down: AtomicBool,
}

impl Flaky {
    /// Does nothing wrong until it is given odds or switched off.
    #[must_use]
    pub fn new(inner: Arc<dyn Metastore>, ids: Arc<dyn Ids>) -> Self {
        Flaky { inner, ids, odds: Mutex::default(), down: AtomicBool::new(false) }
    }

    /// Sets the odds of one kind of operation.
    #[must_use]
    pub fn with_odds(self, operation: Operation, odds: Odds) -> Self {
        self.set_odds(operation, odds);
        self
    }

    /// The same, while it is in use.
    pub fn set_odds(&self, operation: Operation, odds: Odds) {
        self.odds.lock().unwrap_or_else(PoisonError::into_inner).insert(operation, odds);
    }

    fn odds(&self, operation: Operation) -> Odds {
        self.odds.lock().unwrap_or_else(PoisonError::into_inner).get(&operation).copied().unwrap_or_default()
    }

    /// Sets the odds of all operations.
    #[must_use]
    pub fn with_all_odds(self, odds: Odds) -> Self {
        let all = [Operation::Append, Operation::Round, Operation::Change, Operation::Look];
        all.into_iter().fold(self, |flaky, operation| flaky.with_odds(operation, odds))
    }

    /// From now on nothing happens, and callers learn that.
    pub fn switch_off(&self) {
        self.down.store(true, Ordering::Release);
    }

    pub fn switch_on(&self) {
        self.down.store(false, Ordering::Release);
    }

    fn hits(&self, thousandths: u16) -> bool {
        thousandths > 0 && self.ids.below(1000) < u64::from(thousandths)
    }

    async fn before(&self, odds: Odds) -> Result<()> {
        if self.hits(odds.delay) {
            let millis = u64::try_from(odds.max_delay.as_millis()).unwrap_or(u64::MAX);
            tokio::time::sleep(Duration::from_millis(self.ids.below(millis.saturating_add(1)))).await;
        }
        if self.down.load(Ordering::Acquire) {
            return Err(MetaError::Unavailable("switched off on purpose".to_owned()));
        }
        if self.hits(odds.before) {
            return Err(MetaError::Unavailable("failed on purpose, before".to_owned()));
        }
        Ok(())
    }

    async fn change<T: Send>(&self, operation: Operation, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let odds = self.odds(operation);
        self.before(odds).await?;
        let done = work.await?;
        if self.hits(odds.after) {
            return Err(MetaError::Indeterminate("failed on purpose, after".to_owned()));
        }
        Ok(done)
    }

    async fn look<T: Send>(&self, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let odds = self.odds(Operation::Look);
        self.before(odds).await?;
        let found = work.await?;
        if self.hits(odds.after) {
            return Err(MetaError::Unavailable("failed on purpose, after".to_owned()));
        }
        Ok(found)
    }
}

#[async_trait]
impl Topics for Flaky {
    async fn create_topic(&self, id: TopicId, name: &TopicName, partitions: i32, configs: &BTreeMap<String, String>) -> Result<Creation> {
        self.change(Operation::Change, self.inner.create_topic(id, name, partitions, configs)).await
    }

    async fn find_topics(&self, query: &TopicQuery) -> Result<Vec<Topic>> {
        self.look(self.inner.find_topics(query)).await
    }

    async fn grow_topic(&self, id: TopicId, partitions: i32) -> Result<Growth> {
        self.change(Operation::Change, self.inner.grow_topic(id, partitions)).await
    }

    async fn replace_topic_configs(&self, id: TopicId, expected: &Configs, configs: &Configs) -> Result<Reconfiguration> {
        self.change(Operation::Change, self.inner.replace_topic_configs(id, expected, configs)).await
    }

    async fn delete_topic(&self, id: TopicId) -> Result<bool> {
        self.change(Operation::Change, self.inner.delete_topic(id)).await
    }

    async fn sweep_deleted_topics(&self, limit: usize) -> Result<bool> {
        self.change(Operation::Change, self.inner.sweep_deleted_topics(limit)).await
    }
}

#[async_trait]
impl Log for Flaky {
    async fn append(&self, events: &[WriteEvent], writer: [u8; 16]) -> Result<()> {
        self.change(Operation::Append, self.inner.append(events, writer)).await
    }

    fn inline_max(&self) -> u64 {
        self.inner.inline_max()
    }

    async fn find_events(&self, objects: &[ObjectId]) -> Result<Vec<ObjectId>> {
        self.look(self.inner.find_events(objects)).await
    }

    async fn verdicts(&self, objects: &[ObjectId]) -> Result<Vec<(ObjectId, ObjectVerdict)>> {
        self.look(self.inner.verdicts(objects)).await
    }

    async fn run_round(&self, limits: RoundLimits, decide: &Decide) -> Result<Round> {
        self.change(Operation::Round, self.inner.run_round(limits, decide)).await
    }

    async fn pending_events(&self) -> Result<PendingEvents> {
        self.look(self.inner.pending_events()).await
    }

    async fn heads(&self, logs: &[TopicPartition]) -> Result<Vec<Option<Head>>> {
        self.look(self.inner.heads(logs)).await
    }

    async fn segments(&self, queries: &[SegmentQuery]) -> Result<Vec<Option<LogView>>> {
        self.look(self.inner.segments(queries)).await
    }

    async fn first_segment_since(&self, log: TopicPartition, at: Timestamp) -> Result<Option<Segment>> {
        self.look(self.inner.first_segment_since(log, at)).await
    }

    async fn expire_producers(&self, idle: Duration, limit: usize) -> Result<bool> {
        self.change(Operation::Change, self.inner.expire_producers(idle, limit)).await
    }

    async fn reserve_producer_ids(&self, count: u32) -> Result<ProducerId> {
        self.change(Operation::Change, self.inner.reserve_producer_ids(count)).await
    }
}

#[async_trait]
impl LogAdmin for Flaky {
    async fn trim_logs(&self, trims: &[(TopicPartition, TrimTo)], decide: &DecideTrim) -> Result<Vec<Trimmed>> {
        self.change(Operation::Change, self.inner.trim_logs(trims, decide)).await
    }

    async fn sweep_trimmed_segments(&self, limit: usize) -> Result<bool> {
        self.change(Operation::Change, self.inner.sweep_trimmed_segments(limit)).await
    }

    async fn log_sizes(&self, topics: &[TopicId]) -> Result<Vec<(TopicPartition, u64)>> {
        self.look(self.inner.log_sizes(topics)).await
    }

    async fn producers(&self, logs: &[TopicPartition], limit: usize) -> Result<Vec<(ProducerKey, ProducerState)>> {
        self.look(self.inner.producers(logs, limit)).await
    }
}

#[async_trait]
impl GroupConfigs for Flaky {
    async fn group_configs(&self, groups: &[GroupId]) -> Result<Vec<Configs>> {
        self.look(self.inner.group_configs(groups)).await
    }

    async fn replace_group_configs(&self, group: &GroupId, expected: &Configs, configs: &Configs) -> Result<bool> {
        self.change(Operation::Change, self.inner.replace_group_configs(group, expected, configs)).await
    }

    async fn configured_groups(&self) -> Result<Vec<GroupId>> {
        self.look(self.inner.configured_groups()).await
    }
}

#[async_trait]
impl Offsets for Flaky {
    async fn commit_offsets(&self, group: &GroupId, expected: GroupVersion, offsets: &[(TopicPartition, CommittedOffset)]) -> Result<bool> {
        self.change(Operation::Change, self.inner.commit_offsets(group, expected, offsets)).await
    }

    async fn committed_offsets(&self, group: &GroupId, logs: Option<&[TopicPartition]>) -> Result<Vec<(TopicPartition, CommittedOffset)>> {
        self.look(self.inner.committed_offsets(group, logs)).await
    }
}

#[async_trait]
impl Groups for Flaky {
    async fn load_groups(&self, groups: &[GroupId]) -> Result<Vec<GroupRow>> {
        self.look(self.inner.load_groups(groups)).await
    }

    async fn store_group(&self, group: &GroupId, expected: GroupVersion, change: &GroupChange) -> Result<Option<GroupVersion>> {
        self.change(Operation::Change, self.inner.store_group(group, expected, change)).await
    }

    async fn delete_group(&self, group: &GroupId, expected: GroupVersion) -> Result<bool> {
        self.change(Operation::Change, self.inner.delete_group(group, expected)).await
    }

    async fn list_groups(&self) -> Result<Vec<(GroupId, GroupLabel)>> {
        self.look(self.inner.list_groups()).await
    }

    async fn beat(&self, beats: &[Beat], known: &[(GroupId, GroupVersion)]) -> Result<Vec<(GroupId, GroupVersion)>> {
        self.change(Operation::Change, self.inner.beat(beats, known)).await
    }

    async fn sweep_groups(&self, sweep: GroupSweep) -> Result<Option<GroupsSwept>> {
        self.change(Operation::Change, self.inner.sweep_groups(sweep)).await
    }

    async fn expire_groups(&self, retention: Duration, linger: Duration, limit: usize) -> Result<bool> {
        self.change(Operation::Change, self.inner.expire_groups(retention, linger, limit)).await
    }

    async fn delete_offsets(&self, group: &GroupId, expected: GroupVersion, logs: &[TopicPartition]) -> Result<bool> {
        self.change(Operation::Change, self.inner.delete_offsets(group, expected, logs)).await
    }
}

#[async_trait]
impl Leases for Flaky {
    async fn cluster_id(&self, proposal: &str) -> Result<String> {
        self.change(Operation::Change, self.inner.cluster_id(proposal)).await
    }

    async fn acquire_lease(&self, wanted: Option<NodeId>, agent: &Agent, ttl: Duration) -> Result<LeaseOutcome> {
        self.change(Operation::Change, self.inner.acquire_lease(wanted, agent, ttl)).await
    }

    async fn renew_lease(&self, node: NodeId, instance: [u8; 16], ttl: Duration) -> Result<bool> {
        self.change(Operation::Change, self.inner.renew_lease(node, instance, ttl)).await
    }

    async fn release_lease(&self, node: NodeId, instance: [u8; 16]) -> Result<()> {
        self.change(Operation::Change, self.inner.release_lease(node, instance)).await
    }

    async fn live_agents(&self) -> Result<Vec<Agent>> {
        self.look(self.inner.live_agents()).await
    }

    async fn peer_secrets(&self, proposal: [u8; 32]) -> Result<PeerSecrets> {
        self.change(Operation::Change, self.inner.peer_secrets(proposal)).await
    }

    async fn rotate_peer_secret(&self, next: [u8; 32]) -> Result<PeerSecrets> {
        self.change(Operation::Change, self.inner.rotate_peer_secret(next)).await
    }
}

#[async_trait]
impl InlinedObjects for Flaky {
    async fn inlined_object(&self, object: ObjectId) -> Result<Option<Bytes>> {
        self.look(self.inner.inlined_object(object)).await
    }

    async fn delete_inlined(&self, objects: &[ObjectId]) -> Result<()> {
        self.change(Operation::Change, self.inner.delete_inlined(objects)).await
    }
}

#[async_trait]
impl Changes for Flaky {
    fn subscribe_changes(&self) -> Receiver<Change> {
        self.inner.subscribe_changes()
    }
}

#[async_trait]
impl Metastore for Flaky {
    async fn check(&self) -> Result<()> {
        self.look(self.inner.check()).await
    }

    async fn migrate(&self) -> Result<()> {
        self.inner.migrate().await
    }

    async fn check_schema(&self) -> Result<()> {
        self.look(self.inner.check_schema()).await
    }

    async fn check_migrations(&self) -> Result<()> {
        self.look(self.inner.check_migrations()).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }

    fn describe(&self) -> String {
        format!("flaky {}", self.inner.describe())
    }
}

#[cfg(test)]
#[path = "flaky_tests.rs"]
mod tests;

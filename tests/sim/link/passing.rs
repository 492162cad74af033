//! What passes the link as it is; and announcements, some of which do not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use yaks::metastore::{
    Agent as Registered, Beat, Change, Changes, CommittedOffset, Configs, Creation, DecideTrim, GroupChange, GroupConfigs, GroupLabel,
    GroupRow, GroupSweep, GroupVersion, Groups, GroupsSwept, Growth, InlinedObjects, LeaseOutcome, Leases, LogAdmin, Metastore, Offsets,
    PeerSecrets, Reconfiguration, Result, Topic, TopicQuery, Topics, Trimmed,
};
use yaks::partition::{ProducerKey, ProducerState, TrimTo};
use yaks::types::{GroupId, NodeId, TopicId, TopicName, TopicPartition};

use super::Link;
use crate::group_book;
use crate::sabotage::Sabotage;

#[async_trait]
impl Topics for Link {
    async fn create_topic(&self, id: TopicId, name: &TopicName, partitions: i32, configs: &BTreeMap<String, String>) -> Result<Creation> {
        self.through(self.flaky.create_topic(id, name, partitions, configs)).await
    }

    async fn find_topics(&self, query: &TopicQuery) -> Result<Vec<Topic>> {
        self.through(self.flaky.find_topics(query)).await
    }

    async fn grow_topic(&self, id: TopicId, partitions: i32) -> Result<Growth> {
        self.through(self.flaky.grow_topic(id, partitions)).await
    }

    async fn replace_topic_configs(&self, id: TopicId, expected: &Configs, configs: &Configs) -> Result<Reconfiguration> {
        self.through(self.flaky.replace_topic_configs(id, expected, configs)).await
    }

    async fn delete_topic(&self, id: TopicId) -> Result<bool> {
        self.through(self.flaky.delete_topic(id)).await
    }

    async fn sweep_deleted_topics(&self, limit: usize) -> Result<bool> {
        self.through(self.flaky.sweep_deleted_topics(limit)).await
    }
}

#[async_trait]
impl LogAdmin for Link {
    async fn trim_logs(&self, trims: &[(TopicPartition, TrimTo)], decide: &DecideTrim) -> Result<Vec<Trimmed>> {
        self.through(self.flaky.trim_logs(trims, decide)).await
    }

    async fn sweep_trimmed_segments(&self, limit: usize) -> Result<bool> {
        self.through(self.flaky.sweep_trimmed_segments(limit)).await
    }

    async fn log_sizes(&self, topics: &[TopicId]) -> Result<Vec<(TopicPartition, u64)>> {
        self.through(self.flaky.log_sizes(topics)).await
    }

    async fn producers(&self, logs: &[TopicPartition], limit: usize) -> Result<Vec<(ProducerKey, ProducerState)>> {
        self.through(self.flaky.producers(logs, limit)).await
    }
}

#[async_trait]
impl GroupConfigs for Link {
    async fn group_configs(&self, groups: &[GroupId]) -> Result<Vec<Configs>> {
        self.through(self.flaky.group_configs(groups)).await
    }

    async fn replace_group_configs(&self, group: &GroupId, expected: &Configs, configs: &Configs) -> Result<bool> {
        self.through(self.flaky.replace_group_configs(group, expected, configs)).await
    }

    async fn configured_groups(&self) -> Result<Vec<GroupId>> {
        self.through(self.flaky.configured_groups()).await
    }
}

#[async_trait]
impl Offsets for Link {
    async fn commit_offsets(&self, group: &GroupId, expected: GroupVersion, offsets: &[(TopicPartition, CommittedOffset)]) -> Result<bool> {
        let Some((expected, offsets)) = self.spoil_commit(group, expected, offsets).await else { return Ok(true) };
        let committed = self.through(self.flaky.commit_offsets(group, expected, &offsets)).await;
        group_book::watch(&self.world, group).await;
        committed
    }

    async fn committed_offsets(&self, group: &GroupId, logs: Option<&[TopicPartition]>) -> Result<Vec<(TopicPartition, CommittedOffset)>> {
        self.through(self.flaky.committed_offsets(group, logs)).await
    }
}

#[async_trait]
impl Groups for Link {
    async fn load_groups(&self, groups: &[GroupId]) -> Result<Vec<GroupRow>> {
        self.through(self.flaky.load_groups(groups)).await
    }

    async fn store_group(&self, group: &GroupId, expected: GroupVersion, change: &GroupChange) -> Result<Option<GroupVersion>> {
        let expected = if self.world.sabotage == Sabotage::GroupOverwritten { self.present_version(group).await } else { expected };
        self.through(self.flaky.store_group(group, expected, change)).await
    }

    async fn delete_group(&self, group: &GroupId, expected: GroupVersion) -> Result<bool> {
        self.through(self.flaky.delete_group(group, expected)).await
    }

    async fn list_groups(&self) -> Result<Vec<(GroupId, GroupLabel)>> {
        self.through(self.flaky.list_groups()).await
    }

    async fn beat(&self, beats: &[Beat], known: &[(GroupId, GroupVersion)]) -> Result<Vec<(GroupId, GroupVersion)>> {
        self.through(self.flaky.beat(beats, known)).await
    }

    async fn sweep_groups(&self, sweep: GroupSweep) -> Result<Option<GroupsSwept>> {
        let swept = self.through(self.flaky.sweep_groups(sweep)).await?;
        Ok(swept.filter(|_| self.world.sabotage != Sabotage::GroupsUnswept))
    }

    async fn expire_groups(&self, retention: Duration, linger: Duration, limit: usize) -> Result<bool> {
        self.through(self.flaky.expire_groups(retention, linger, limit)).await
    }

    async fn delete_offsets(&self, group: &GroupId, expected: GroupVersion, logs: &[TopicPartition]) -> Result<bool> {
        self.through(self.flaky.delete_offsets(group, expected, logs)).await
    }
}

#[async_trait]
impl Leases for Link {
    async fn cluster_id(&self, proposal: &str) -> Result<String> {
        self.through(self.flaky.cluster_id(proposal)).await
    }

    async fn acquire_lease(&self, wanted: Option<NodeId>, agent: &Registered, ttl: Duration) -> Result<LeaseOutcome> {
        self.through(self.flaky.acquire_lease(wanted, agent, ttl)).await
    }

    async fn renew_lease(&self, node: NodeId, instance: [u8; 16], ttl: Duration) -> Result<bool> {
        self.through(self.flaky.renew_lease(node, instance, ttl)).await
    }

    async fn release_lease(&self, node: NodeId, instance: [u8; 16]) -> Result<()> {
        self.through(self.flaky.release_lease(node, instance)).await
    }

    async fn live_agents(&self) -> Result<Vec<Registered>> {
        self.through(self.flaky.live_agents()).await
    }

    async fn peer_secrets(&self, proposal: [u8; 32]) -> Result<PeerSecrets> {
        self.through(self.flaky.peer_secrets(proposal)).await
    }

    async fn rotate_peer_secret(&self, next: [u8; 32]) -> Result<PeerSecrets> {
        self.through(self.flaky.rotate_peer_secret(next)).await
    }
}

impl Changes for Link {
    /// Loses what is announced while the agent is deaf or stands still, and some by chance.
    fn subscribe_changes(&self) -> mpsc::Receiver<Change> {
        let mut announced = self.flaky.subscribe_changes();
        let (heard, receiver) = mpsc::channel(16);
        let (deaf, gate, dice, lost) = (Arc::clone(&self.deaf), self.gate.clone(), self.dice.clone(), self.world.plan.odds.lost);
        self.tasks.spawn("hearing", async move {
            while let Some(change) = announced.recv().await {
                let unheard = deaf.load(Ordering::Relaxed) || gate.is_shut() || dice.chance(lost);
                let change = if dice.chance(20) { Change::Unknown } else { change };
                if !unheard {
                    // A full queue is one more way to lose it.
                    let _ = heard.try_send(change);
                }
            }
        });
        receiver
    }
}

impl InlinedObjects for Link {}

#[async_trait]
impl Metastore for Link {
    async fn check(&self) -> Result<()> {
        self.through(self.flaky.check()).await
    }

    async fn migrate(&self) -> Result<()> {
        self.flaky.migrate().await
    }

    async fn check_schema(&self) -> Result<()> {
        self.flaky.check_schema().await
    }

    async fn check_migrations(&self) -> Result<()> {
        self.flaky.check_migrations().await
    }

    async fn close(&self) {
        self.flaky.close().await;
    }

    fn describe(&self) -> String {
        self.flaky.describe()
    }
}

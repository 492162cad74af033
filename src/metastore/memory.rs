//! The reference model: every trait in the plainest way that is right, for simulations and as the measure of the others.
//!
//! Deterministic: ordered maps, no randomness, time only through the given [`Clock`], never tokio's. Several agents of a
//! simulation share one behind an `Arc`; each gets the others' announcements.

mod group_configs;
mod groups;
mod log;
mod log_admin;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::announce::Subscribers;
use super::leases::{Grant, grant};
use super::{
    Agent, Beat, Change, Changes, Configs, Creation, Growth, InlinedObjects, LeaseOutcome, Leases, Metastore, PeerSecrets, Reconfiguration,
    Result, Topic, TopicQuery, Topics, WriteEvent,
};
use crate::clock::Clock;
use crate::partition::{ObjectVerdict, ParkedBatch, ProducerKey, ProducerState};
use crate::types::{GroupId, Head, NodeId, ObjectId, Offset, ProducerId, Segment, Timestamp, TopicId, TopicName, TopicPartition};

/// A metastore that lives as long as its process.
#[derive(Debug)]
pub struct MemoryMetastore {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Held by the one round at a time, and by the deletion of a topic, which must not happen in the middle of one.
    round: tokio::sync::Mutex<()>,
    subscribers: Subscribers,
    inline_max: u64,
}

#[derive(Debug, Default)]
struct State {
    topics: BTreeMap<TopicId, Topic>,
    names: BTreeMap<TopicName, TopicId>,
    deleted: BTreeSet<TopicId>,
    heads: BTreeMap<TopicPartition, Head>,
    /// By log and last offset.
    segments: BTreeMap<(TopicPartition, Offset), Segment>,
    /// By order of commit, with the time of insertion.
    pending: BTreeMap<u64, (WriteEvent, Timestamp)>,
    /// Numbers given to pending events and parked batches so far.
    numbered: u64,
    verdicts: BTreeMap<ObjectId, ObjectVerdict>,
    set_aside: BTreeMap<ObjectId, String>,
    producers: BTreeMap<ProducerKey, ProducerState>,
    /// By order of parking.
    parked: BTreeMap<u64, ParkedBatch>,
    inlined: BTreeMap<ObjectId, Bytes>,
    next_producer_id: i64,
    offsets: BTreeMap<GroupId, groups::Committed>,
    groups: BTreeMap<GroupId, groups::Row>,
    sessions: BTreeMap<Beat, groups::Session>,
    groups_swept_at: Timestamp,
    group_configs: BTreeMap<GroupId, Configs>,
    cluster_id: Option<String>,
    /// With the time at which the lease ends.
    agents: BTreeMap<NodeId, (Agent, Timestamp)>,
    peer_secrets: Option<PeerSecrets>,
}

impl MemoryMetastore {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let (round, subscribers) = (tokio::sync::Mutex::default(), Subscribers::default());
        MemoryMetastore { clock, state: Mutex::default(), round, subscribers, inline_max: 0 }
    }

    /// Takes objects of up to `max` bytes with their events.
    #[must_use]
    pub fn inlining(self, max: u64) -> Self {
        MemoryMetastore { inline_max: max, ..self }
    }

    /// Why each event that could not be read was set aside.
    #[must_use]
    pub fn set_aside(&self) -> Vec<(ObjectId, String)> {
        self.state().set_aside.iter().map(|(object, reason)| (*object, reason.clone())).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.numbered += 1;
        self.numbered
    }

    fn logs_of(topic: TopicId) -> std::ops::RangeInclusive<TopicPartition> {
        TopicPartition::new(topic, i32::MIN)..=TopicPartition::new(topic, i32::MAX)
    }

    fn forget_offsets(&mut self, topic: TopicId) {
        for committed in self.offsets.values_mut() {
            committed.retain(|log, _| log.topic != topic);
        }
        self.offsets.retain(|_, committed| !committed.is_empty());
    }
}

#[async_trait]
impl Topics for MemoryMetastore {
    async fn create_topic(&self, id: TopicId, name: &TopicName, partitions: i32, configs: &BTreeMap<String, String>) -> Result<Creation> {
        let created_at = self.clock.now();
        let mut state = self.state();
        if let Some(existing) = state.names.get(name).and_then(|id| state.topics.get(id)) {
            return Ok(Creation::Exists(existing.clone()));
        }
        if state.topics.contains_key(&id) || state.deleted.contains(&id) {
            return Err(super::MetaError::Refused(format!("the topic id {id} was used before")));
        }
        let topic = Topic { id, name: name.clone(), partitions, configs: configs.clone(), created_at };
        state.names.insert(name.clone(), id);
        state.topics.insert(id, topic.clone());
        state.heads.extend((0..partitions).map(|p| (TopicPartition::new(id, p), Head::default())));
        Ok(Creation::Created(topic))
    }

    async fn find_topics(&self, query: &TopicQuery) -> Result<Vec<Topic>> {
        let state = self.state();
        let ids: BTreeSet<TopicId> = match query {
            TopicQuery::All => state.topics.keys().copied().collect(),
            TopicQuery::Names(names) => names.iter().filter_map(|n| state.names.get(n)).copied().collect(),
            TopicQuery::Ids(ids) => ids.iter().copied().collect(),
        };
        let mut found: Vec<Topic> = ids.iter().filter_map(|id| state.topics.get(id)).cloned().collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    async fn grow_topic(&self, id: TopicId, partitions: i32) -> Result<Growth> {
        let mut state = self.state();
        let Some(topic) = state.topics.get_mut(&id) else { return Ok(Growth::Gone) };
        if partitions <= topic.partitions {
            return Ok(Growth::NotLarger(topic.clone()));
        }
        let new = topic.partitions..partitions;
        topic.partitions = partitions;
        let grown = topic.clone();
        state.heads.extend(new.map(|p| (TopicPartition::new(id, p), Head::default())));
        Ok(Growth::Grown(grown))
    }

    async fn replace_topic_configs(&self, id: TopicId, expected: &Configs, configs: &Configs) -> Result<Reconfiguration> {
        let mut state = self.state();
        let Some(topic) = state.topics.get_mut(&id) else { return Ok(Reconfiguration::Gone) };
        if topic.configs != *expected {
            return Ok(Reconfiguration::Outdated(topic.clone()));
        }
        topic.configs.clone_from(configs);
        Ok(Reconfiguration::Done(topic.clone()))
    }

    async fn delete_topic(&self, id: TopicId) -> Result<bool> {
        let round = self.round.lock().await;
        let mut state = self.state();
        let Some(topic) = state.topics.remove(&id) else { return Ok(false) };
        state.names.remove(&topic.name);
        state.deleted.insert(id);
        state.heads.retain(|log, _| log.topic != id);
        state.producers.retain(|(log, _), _| log.topic != id);
        state.forget_offsets(id);
        // The next round refuses what is parked, so that nobody waits for its verdict in vain.
        for parked in state.parked.values_mut().filter(|p| p.log.topic == id) {
            parked.deadline = Timestamp(0);
        }
        drop(state);
        drop(round);
        Ok(true)
    }

    async fn sweep_deleted_topics(&self, limit: usize) -> Result<bool> {
        let mut state = self.state();
        let mut left = limit;
        while let Some(topic) = state.deleted.first().copied() {
            let logs = State::logs_of(topic);
            let range = (*logs.start(), Offset(i64::MIN))..=(*logs.end(), Offset(i64::MAX));
            let doomed: Vec<_> = state.segments.range(range).map(|(key, _)| *key).take(left + 1).collect();
            let whole = doomed.len() <= left;
            for key in doomed.iter().take(left) {
                state.segments.remove(key);
            }
            left -= doomed.len().min(left);
            if !whole {
                return Ok(true);
            }
            state.forget_offsets(topic);
            state.deleted.remove(&topic);
        }
        Ok(false)
    }
}

#[async_trait]
impl Leases for MemoryMetastore {
    async fn cluster_id(&self, proposal: &str) -> Result<String> {
        Ok(self.state().cluster_id.get_or_insert_with(|| proposal.to_owned()).clone())
    }

    async fn acquire_lease(&self, wanted: Option<NodeId>, agent: &Agent, ttl: Duration) -> Result<LeaseOutcome> {
        let now = self.clock.now();
        let mut state = self.state();
        let live: Vec<Agent> = state.agents.values().filter(|(_, until)| *until > now).map(|(agent, _)| agent.clone()).collect();
        match grant(&live, wanted, agent) {
            Grant::Held(holder) => Ok(LeaseOutcome::Held(holder)),
            Grant::Store { agent, renamed } => {
                for renamed in renamed {
                    state.agents.entry(renamed.node).and_modify(|(agent, _)| agent.broker = renamed.broker);
                }
                state.agents.insert(agent.node, (agent.clone(), now.plus(ttl)));
                Ok(LeaseOutcome::Granted(agent))
            }
        }
    }

    async fn renew_lease(&self, node: NodeId, instance: [u8; 16], ttl: Duration) -> Result<bool> {
        let now = self.clock.now();
        let mut state = self.state();
        let lease = state.agents.get_mut(&node).filter(|(agent, until)| agent.instance == instance && *until > now);
        Ok(lease.map(|(_, end)| *end = now.plus(ttl)).is_some())
    }

    async fn release_lease(&self, node: NodeId, instance: [u8; 16]) -> Result<()> {
        self.state().agents.retain(|n, (agent, _)| *n != node || agent.instance != instance);
        Ok(())
    }

    async fn live_agents(&self) -> Result<Vec<Agent>> {
        let now = self.clock.now();
        Ok(self.state().agents.values().filter(|(_, until)| *until > now).map(|(agent, _)| agent.clone()).collect())
    }

    async fn peer_secrets(&self, proposal: [u8; 32]) -> Result<PeerSecrets> {
        Ok(self.state().peer_secrets.get_or_insert(PeerSecrets { current: proposal, previous: None }).clone())
    }

    async fn rotate_peer_secret(&self, next: [u8; 32]) -> Result<PeerSecrets> {
        let mut state = self.state();
        let rotated = state.peer_secrets.take().map_or(PeerSecrets { current: next, previous: None }, |now| now.rotated_to(next));
        Ok(state.peer_secrets.insert(rotated).clone())
    }
}

#[async_trait]
impl Changes for MemoryMetastore {
    fn subscribe_changes(&self) -> tokio::sync::mpsc::Receiver<Change> {
        self.subscribers.subscribe()
    }
}

#[async_trait]
impl InlinedObjects for MemoryMetastore {
    async fn inlined_object(&self, object: ObjectId) -> Result<Option<Bytes>> {
        Ok(self.state().inlined.get(&object).cloned())
    }

    async fn delete_inlined(&self, objects: &[ObjectId]) -> Result<()> {
        let mut state = self.state();
        for object in objects {
            state.inlined.remove(object);
        }
        Ok(())
    }
}

#[async_trait]
impl Metastore for MemoryMetastore {
    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn migrate(&self) -> Result<()> {
        Ok(())
    }

    async fn check_schema(&self) -> Result<()> {
        Ok(())
    }

    async fn check_migrations(&self) -> Result<()> {
        Ok(())
    }

    async fn close(&self) {}

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}

impl State {
    fn reserve_producer_ids(&mut self, count: u32) -> ProducerId {
        let first = self.next_producer_id;
        self.next_producer_id += i64::from(count);
        ProducerId(first)
    }
}

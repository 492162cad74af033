//! What all handlers share.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::client_rack;
use super::group_settings::GroupSettingsCache;
use super::nodes::Nodes;
use super::producer_ids::ProducerIds;
use super::rooms::{ReadLog, Submit};
use super::topics::TopicCache;
use crate::clock::{Clock, Ids};
use crate::fetch::Watermarks;
use crate::group::Coordinator;
use crate::metastore::{Identity, Metastore};
use crate::metrics::{FetchMetrics, ProduceMetrics, RequestMetrics};
use crate::protocol::RequestHeader;
use crate::types::RackCidrs;

/// How requests are answered.
#[derive(Debug, Clone)]
pub struct HandlerConfig {
    /// The cluster's id, as the metastore gave it.
    pub cluster_id: String,
    /// This agent as clients are told of it (with its real port), and whether it may serve them.
    pub me: Identity,
    pub auto_create_topics: bool,
    pub default_partitions: i32,
    pub max_partitions: i32,
    /// The largest batch where the topic does not say.
    pub message_max_bytes: u32,
    /// Bytes of one fetch answer, at most.
    pub fetch_max_bytes: u64,
    pub max_request_bytes: usize,
    pub max_connections: usize,
    pub connection_idle_ms: u64,
    /// What clients are told for a log directory: where the records are.
    pub log_dir: String,
    /// Racks of clients by their address.
    pub rack_cidrs: RackCidrs,
    /// Answer batches without a producer id before they have offsets, where the topic does not say.
    pub deferred: bool,
}

/// What handlers stand on.
#[derive(Clone)]
pub struct BrokerParts {
    pub metastore: Arc<dyn Metastore>,
    pub producer: Arc<dyn Submit>,
    pub reader: Arc<dyn ReadLog>,
    pub watermarks: Arc<Watermarks>,
    pub groups: Coordinator,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
    pub requests: RequestMetrics,
    pub produce: ProduceMetrics,
    pub fetch: FetchMetrics,
}

impl std::fmt::Debug for BrokerParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrokerParts").field("metastore", &self.metastore).finish_non_exhaustive()
    }
}

/// The parts, and what handlers remember.
pub(super) struct Broker {
    pub(super) config: HandlerConfig,
    pub(super) parts: BrokerParts,
    pub(super) topics: TopicCache,
    pub(super) nodes: Nodes,
    pub(super) producer_ids: ProducerIds,
    pub(super) group_settings: GroupSettingsCache,
    /// Requests whose records are being unpacked.
    pub(super) unpacking: Arc<Semaphore>,
}

/// Requests whose records are unpacked at the same time: each may hold its records, unfolded.
const UNPACKING: usize = 2;

impl Broker {
    pub(super) fn new(config: HandlerConfig, parts: BrokerParts) -> Self {
        let topics = TopicCache::new(Arc::clone(&parts.metastore) as _);
        let nodes = Nodes::new(Arc::clone(&parts.metastore) as _, config.me.clone());
        let producer_ids = ProducerIds::new(Arc::clone(&parts.metastore) as _);
        let group_settings = GroupSettingsCache::new(Arc::clone(&parts.metastore) as _);
        Broker { config, parts, topics, nodes, producer_ids, group_settings, unpacking: Arc::new(Semaphore::new(UNPACKING)) }
    }

    /// The rack the client is in, if that is known.
    pub(super) fn rack_of(&self, header: &RequestHeader) -> Option<Arc<str>> {
        client_rack::of(header, &self.config.rack_cidrs)
    }
}

/// An answer, and the first error code in it.
pub(super) struct Outcome<A> {
    pub(super) answer: A,
    pub(super) error_code: i16,
}

impl<A> Outcome<A> {
    pub(super) fn new(answer: A, error_code: i16) -> Self {
        Outcome { answer, error_code }
    }

    pub(super) fn fine(answer: A) -> Self {
        Outcome { answer, error_code: super::error::NONE }
    }
}

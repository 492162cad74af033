//! The cache, and sharing it with the agents of this rack.

use std::sync::Arc;
use std::time::Duration;

use super::cache_config;
use crate::admin::{AdminError, PeerPort};
use crate::cache::{HttpTransport, Lender, ObjectCache, PeerDeadlines, PeerParts, follow};
use crate::clock::Clock;
use crate::config::{Backends, Config};
use crate::metrics::Metrics;
use crate::store::ObjectStore;
use crate::tasks::Tasks;
use crate::upkeep::Membership;

/// The port for peers, if the cache is to be shared: a process alone has nobody to share with.
pub(super) async fn bind(config: &Config) -> Result<Option<PeerPort>, AdminError> {
    match &config.backends {
        Backends::Shared { .. } if config.peers.enabled => PeerPort::bind(&config.broker_host, config.peers.port).await.map(Some),
        Backends::Shared { .. } | Backends::Local { .. } => Ok(None),
    }
}

/// What the cache stands on.
pub(super) struct CacheParts<'a> {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) members: &'a Membership,
    pub(super) metrics: &'a Metrics,
}

/// The lending side, as long as it runs.
#[derive(Debug)]
pub(super) struct Lending(Option<Tasks>);

impl Lending {
    /// False if an answer was cut off.
    pub(super) async fn stop(&self, deadline: Duration) -> bool {
        match &self.0 {
            Some(tasks) => tasks.stop(deadline).await,
            None => true,
        }
    }
}

/// A cache that is shared if there is a port.
pub(super) fn start(config: &Config, port: Option<PeerPort>, parts: CacheParts<'_>, tasks: &Tasks) -> (Arc<ObjectCache>, Lending) {
    let CacheParts { store, clock, members, metrics } = parts;
    let cache_metrics = metrics.cache.clone();
    let Some(port) = port else {
        let cache = ObjectCache::new(store, None, cache_config(config), tasks.clone(), cache_metrics);
        return (Arc::new(cache), Lending(None));
    };
    let view = follow(members.watch(), cache_metrics.clone(), tasks);
    let deadlines = PeerDeadlines::with_first_byte(config.peers.deadline);
    let peers = PeerParts {
        view: view.clone(),
        transport: Arc::new(HttpTransport::new(deadlines.first_byte)),
        clock: Arc::clone(&clock),
        deadlines,
        look: members.look(),
    };
    let cache = Arc::new(ObjectCache::new(store, Some(peers), cache_config(config), tasks.clone(), cache_metrics));
    let lending = tasks.group();
    tracing::info!("the cache is shared with peers on {}", port.address);
    port.serve(Lender::new(Arc::clone(&cache), view, clock, metrics.peers.clone()), &lending);
    (cache, Lending(Some(lending)))
}

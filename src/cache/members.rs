//! Of all agents, those this one shares its cache with: the live ones of its rack that have a port for peers.

use std::sync::Arc;

use tokio::sync::watch;

use super::peer::PeerView;
use super::ring::{Peer, Ring};
use super::wire::{Secret, Secrets};
use crate::metastore::Members;
use crate::metrics::CacheMetrics;
use crate::tasks::Tasks;

/// The agents to share with, whenever they change.
#[must_use]
pub fn follow(mut members: watch::Receiver<Arc<Members>>, metrics: CacheMetrics, tasks: &Tasks) -> watch::Receiver<Arc<PeerView>> {
    let view = view_of(&members.borrow_and_update());
    metrics.peers(view.ring.len());
    let (publish, follower) = watch::channel(Arc::new(view));
    let stop = tasks.stop_token();
    tasks.spawn("peers", async move {
        while let Some(Ok(())) = stop.run_until_cancelled(members.changed()).await {
            let view = view_of(&members.borrow_and_update());
            metrics.peers(view.ring.len());
            tracing::debug!(ring = ?view.ring, "the agents to share the cache with have changed");
            publish.send_replace(Arc::new(view));
        }
    });
    follower
}

fn view_of(members: &Members) -> PeerView {
    let of_my_rack = members.live.iter().filter(|agent| agent.rack == members.me.rack);
    let peers = of_my_rack.filter_map(|agent| Some(Peer { node: agent.node, address: agent.peer_address.clone()? }));
    let secret = |bytes: &[u8; 32]| Secret::new(bytes);
    let secrets = Secrets { current: secret(&members.secrets.current), previous: members.secrets.previous.as_ref().map(secret) };
    PeerView { ring: Ring::new(members.me.node, peers.collect()), secrets }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metastore::{Agent, PeerSecrets};
    use crate::metrics::Metrics;
    use crate::types::NodeId;

    fn agent(node: i32, rack: Option<&str>, shares: bool) -> Agent {
        Agent { peer_address: shares.then(|| format!("host-{node}:9080")), rack: rack.map(str::to_owned), ..Agent::sample(node, "host") }
    }

    fn members(live: Vec<Agent>) -> Arc<Members> {
        let secrets = PeerSecrets { current: [1; 32], previous: Some([2; 32]) };
        Arc::new(Members { me: Arc::new(agent(1, Some("a"), true)), live, secrets })
    }

    #[tokio::test]
    async fn peers_are_the_live_agents_of_the_same_rack_that_share() {
        let (metrics, tasks) = (Metrics::new().expect("metrics"), Tasks::new());
        let (publish, seen) = watch::channel(members(vec![]));
        let mut view = follow(seen, metrics.cache.clone(), &tasks);
        assert_eq!(view.borrow_and_update().ring.len(), 1);
        let others = [(2, Some("a"), true), (3, Some("b"), true), (4, Some("a"), false), (5, None, true), (1, Some("a"), true)];
        publish.send_replace(members(others.map(|(node, rack, shares)| agent(node, rack, shares)).into()));
        view.changed().await.expect("followed");
        let now = view.borrow_and_update().clone();
        assert_eq!(now.ring, Ring::new(NodeId(1), vec![Peer { node: NodeId(2), address: "host-2:9080".to_owned() }]));
        assert_eq!(now.secrets, Secrets { current: Secret::new(&[1; 32]), previous: Some(Secret::new(&[2; 32])) });
        assert!(metrics.render().expect("text").contains("yaks_groupcache_peers 2"));
    }
}

//! The nodes that clients are told of: the live agents, asked for about once a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::fresh::Fresh;
use super::placement::{self, Node};
use crate::metastore::{Identity, Leases};

/// How old the list of live agents may be.
const KEEP: Duration = Duration::from_secs(1);

/// Knows the live nodes.
pub(super) struct Nodes {
    leases: Arc<dyn Leases>,
    /// This agent: it answers, so it lives, whatever the metastore says.
    me: Identity,
    live: Fresh<Arc<[Node]>>,
    last: Mutex<Arc<[Node]>>,
}

impl Nodes {
    pub(super) fn new(leases: Arc<dyn Leases>, me: Identity) -> Self {
        let alone = placement::nodes(&[(*me.agent()).clone()]);
        Nodes { leases, me, live: Fresh::new(KEEP), last: Mutex::new(alone.into()) }
    }

    /// In order of id, never empty. While the metastore cannot be asked: those known last.
    pub(super) async fn live(&self) -> Arc<[Node]> {
        self.live.get_or_ask(self.ask()).await
    }

    /// The node that stands for this agent among `nodes`.
    pub(super) fn mine<'a>(&self, nodes: &'a [Node]) -> Option<&'a Node> {
        let me = self.me.agent();
        nodes.iter().find(|node| node.host == me.advertised_host && node.port == me.advertised_port)
    }

    async fn ask(&self) -> Arc<[Node]> {
        match self.leases.live_agents().await {
            Ok(mut agents) => {
                let me = self.me.agent();
                if !agents.iter().any(|agent| agent.node == me.node) {
                    agents.push((*me).clone());
                }
                let nodes: Arc<[Node]> = placement::nodes(&agents).into();
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&nodes);
                nodes
            }
            Err(error) => {
                tracing::debug!(%error, "the live agents cannot be asked for; those known last are used");
                Arc::clone(&self.last.lock().unwrap_or_else(PoisonError::into_inner))
            }
        }
    }
}

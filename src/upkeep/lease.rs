//! This agent's node id: leased at start, renewed while it lives, given up at the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::metastore::{Agent, LeaseOutcome, Leases, MetaError};
use crate::tasks::{Nudge, Progress, Tasks};
use crate::types::NodeId;

/// The agent cannot have its node id.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error(
        "node id {wanted} is held by a live agent that advertises {}:{}; give this one another YAKS_NODE_ID, leave it unset to lease a free \
         one, or wait until the other's lease has run out",
        held_by.advertised_host, held_by.advertised_port
    )]
    Held { wanted: NodeId, held_by: Agent },
    #[error(transparent)]
    Metastore(#[from] MetaError),
}

/// A node id that is this agent's for as long as it is renewed.
#[derive(Debug)]
pub struct Lease {
    pub agent: Agent,
    leases: Arc<dyn Leases>,
}

impl Lease {
    /// Leases `wanted`, or a free id.
    pub async fn acquire(leases: Arc<dyn Leases>, wanted: Option<NodeId>, agent: &Agent, ttl: Duration) -> Result<Lease, LeaseError> {
        match leases.acquire_lease(wanted, agent, ttl).await? {
            LeaseOutcome::Granted(agent) => Ok(Lease { agent, leases }),
            LeaseOutcome::Held(held_by) => Err(LeaseError::Held { wanted: wanted.unwrap_or(held_by.node), held_by }),
        }
    }

    /// Renews every `heartbeat`. When another agent has taken the id after this one was cut off for longer than `ttl`, this agent must not act under it
    /// any longer: the task fails, and with it the agent.
    pub fn keep(&self, heartbeat: Duration, ttl: Duration, tasks: &Tasks, lost: impl Fn() + Send + Sync + 'static) {
        let (leases, node, instance) = (Arc::clone(&self.leases), self.agent.node, self.agent.instance);
        let renewed = Arc::new(std::sync::Mutex::new(Instant::now()));
        let lost = Arc::new(lost);
        tasks.spawn_loop("lease", heartbeat, Nudge::default(), move || {
            let (leases, renewed, lost) = (Arc::clone(&leases), Arc::clone(&renewed), Arc::clone(&lost));
            async move {
                let began = Instant::now();
                match leases.renew_lease(node, instance, ttl).await {
                    Ok(true) => {
                        *renewed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = began;
                        Progress::Idle
                    }
                    Ok(false) => {
                        tracing::error!(%node, "another agent has taken this node id; this agent stops");
                        lost();
                        Progress::Idle
                    }
                    Err(error) => {
                        let silent = renewed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).elapsed();
                        tracing::warn!(%node, %error, ?silent, "the lease of the node id could not be renewed and is tried again");
                        Progress::Retry(heartbeat / 4)
                    }
                }
            }
        });
    }

    /// Gives the id up at once, so that others need not wait for it.
    pub async fn release(self) {
        if let Err(error) = self.leases.release_lease(self.agent.node, self.agent.instance).await {
            tracing::warn!(node = %self.agent.node, %error, "the node id could not be given up; it will be free when its lease has run out");
        }
    }
}

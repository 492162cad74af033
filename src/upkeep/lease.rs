//! This agent's node id: leased at start, renewed while it lives, given up at the end.
//!
//! The metastore's clock says when a lease ends, and another may have the id from then on. This agent cannot read that clock, so it counts from the moment at
//! which it *asked* for the time, on its own monotonic clock, and stops a little before: its [`Identity`] then acts no more, its connections are closed, and
//! it asks on. It serves again under its own id if that is still free; if not, under another, unless it was told which one to have: then it ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::metastore::{Agent, Identity, LeaseOutcome, Leases, MetaError};
use crate::tasks::{Nudge, Progress, Tasks};
use crate::types::NodeId;

/// How often an agent that was started again looks whether the lease of its former life has ended.
const AGAIN: Duration = Duration::from_millis(500);

/// The agent cannot have its node id.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error(
        "node id {wanted} is held by a live agent that advertises {}:{}; give this one another YAKS_NODE_ID, leave it unset to lease a free \
         one, or wait until the other's lease has run out",
        held_by.advertised_host, held_by.advertised_port
    )]
    Held { wanted: NodeId, held_by: Box<Agent> },
    #[error(transparent)]
    Metastore(#[from] MetaError),
}

#[derive(Debug, Clone, Copy)]
pub struct LeaseConfig {
    /// The id this agent was told to have.
    pub wanted: Option<NodeId>,
    /// How long a lease is good, by the metastore's clock.
    pub ttl: Duration,
    /// How often it is renewed.
    pub heartbeat: Duration,
}

impl LeaseConfig {
    /// Until when a lease that was asked for at `asked` is good by this machine's clock. The metastore counts from a later moment; the tenth is for clocks
    /// that do not run alike, and for what is on its way.
    fn good_until(&self, asked: Instant) -> Instant {
        asked + self.ttl - self.ttl / 10
    }
}

/// A node id that is this agent's for as long as it is renewed.
#[derive(Debug, Clone)]
pub struct Lease {
    me: Identity,
    leases: Arc<dyn Leases>,
    config: LeaseConfig,
}

impl Lease {
    /// Leases the wanted id, or a free one. If an agent at the same address holds it, which is most likely the former life of this one, it waits for the end
    /// of that lease.
    pub async fn acquire(leases: Arc<dyn Leases>, config: LeaseConfig, agent: &Agent) -> Result<Lease, LeaseError> {
        let began = Instant::now();
        loop {
            let asked = Instant::now();
            let held_by = match leases.acquire_lease(config.wanted, agent, config.ttl).await? {
                LeaseOutcome::Granted(agent) => {
                    let me = Identity::leased(agent, config.good_until(asked));
                    return Ok(Lease { me, leases, config });
                }
                LeaseOutcome::Held(held_by) => held_by,
            };
            if !held_by.shares_address(agent) || began.elapsed() > config.ttl + AGAIN {
                return Err(LeaseError::Held { wanted: config.wanted.unwrap_or(held_by.node), held_by: Box::new(held_by) });
            }
            if asked == began {
                tracing::warn!(node = %held_by.node, "an agent at this address holds the node id; waiting until its lease has run out");
            }
            sleep(AGAIN).await;
        }
    }

    /// Who this agent is.
    #[must_use]
    pub fn me(&self) -> Identity {
        self.me.clone()
    }

    /// Renews in `tasks`. `changed` is called when the agent has other ids than before, `taken` when it cannot have the id that it was told to have.
    pub fn keep(&self, tasks: &Tasks, changed: Nudge, taken: impl Fn() + Send + Sync + 'static) {
        let (lease, taken) = (self.clone(), Arc::new(taken));
        tasks.spawn_loop("lease", self.config.heartbeat, Nudge::default(), move || {
            let (lease, changed, taken) = (lease.clone(), changed.clone(), Arc::clone(&taken));
            async move {
                let before = lease.me.agent();
                let progress = lease.turn(&*taken).await;
                if lease.me.agent() != before {
                    changed.nudge();
                }
                progress
            }
        });
    }

    /// Gives the id up at once, so that others need not wait for it.
    pub async fn release(self) {
        let me = self.me.agent();
        if let Err(error) = self.leases.release_lease(me.node, me.instance).await {
            tracing::warn!(node = %me.node, %error, "the node id could not be given up; it will be free when its lease has run out");
        }
    }

    async fn turn(&self, taken: &(dyn Fn() + Send + Sync)) -> Progress {
        self.stop_in_time();
        let now = Instant::now();
        // An answer that comes later than that is of no use.
        let patience = self.me.until().map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero());
        match timeout(patience.unwrap_or(self.config.heartbeat), self.renew()).await {
            Ok(Ok(())) => Progress::Idle,
            Ok(Err(LeaseError::Held { held_by, .. })) => {
                let host = &held_by.advertised_host;
                tracing::error!(node = %held_by.node, host, "another agent has taken this node id, which this one was told to have; it stops");
                taken();
                Progress::Idle
            }
            Ok(Err(LeaseError::Metastore(error))) => self.failed(&error),
            Err(_) => self.failed(&"no answer in time"),
        }
    }

    /// Renews, or acquires what has ended.
    async fn renew(&self) -> Result<(), LeaseError> {
        let (me, asked) = (self.me.agent(), Instant::now());
        if self.leases.renew_lease(me.node, me.instance, self.config.ttl).await? {
            self.hold((*me).clone(), asked);
            return Ok(());
        }
        // By the metastore's clock it is over, whatever this machine's says.
        self.me.lose();
        let asked = Instant::now();
        let held_by = match self.leases.acquire_lease(Some(me.node), &me, self.config.ttl).await? {
            LeaseOutcome::Granted(agent) => {
                self.hold(agent, asked);
                return Ok(());
            }
            LeaseOutcome::Held(held_by) => held_by,
        };
        if self.config.wanted.is_some() {
            return Err(LeaseError::Held { wanted: me.node, held_by: Box::new(held_by) });
        }
        let asked = Instant::now();
        match self.leases.acquire_lease(None, &me, self.config.ttl).await? {
            LeaseOutcome::Granted(agent) => {
                tracing::warn!(was = %me.node, now = %agent.node, "another agent has taken the node id; this one goes on under another");
                self.hold(agent, asked);
                Ok(())
            }
            // Not for an id that nobody asked for; the next turn tries again.
            LeaseOutcome::Held(held_by) => Err(MetaError::Unavailable(format!("node id {} was not free", held_by.node)).into()),
        }
    }

    fn hold(&self, agent: Agent, asked: Instant) {
        let acted = self.me.acting().is_some();
        let node = agent.node;
        self.me.renew(agent, self.config.good_until(asked));
        if !acted && self.me.acting().is_some() {
            tracing::info!(%node, "the node id is leased again; clients are served");
        }
    }

    fn stop_in_time(&self) {
        if self.me.acting().is_none() && !self.me.over().is_cancelled() {
            self.me.lose();
            let node = self.me.agent().node;
            tracing::error!(%node, "the lease of the node id has run out and could not be renewed; no client is served until it is");
        }
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> Progress {
        tracing::warn!(node = %self.me.agent().node, %error, "the lease of the node id could not be renewed and is tried again");
        let soon = self.config.heartbeat / 4;
        let left = self.me.until().map(|until| until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero());
        Progress::Retry(left.map_or(soon, |left| left.min(soon)))
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;

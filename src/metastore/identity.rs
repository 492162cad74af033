//! Who this agent is at the moment, and whether it may act as that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Agent, PeerSecrets};

/// All agents, as one of them sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    pub me: Arc<Agent>,
    /// In order of node id; this agent is among them once its lease is seen.
    pub live: Vec<Agent>,
    pub secrets: PeerSecrets,
}

/// This agent's ids, for as long as their lease is good by this machine's monotonic clock. Clones share it.
///
/// A process may stand still at any moment and for any time. So whoever acts under the ids asks here first, each time: the clock knows of the time that
/// was slept through before any task of this process does.
#[derive(Debug, Clone)]
pub struct Identity(Arc<Mutex<Term>>);

/// From a lease to its loss.
#[derive(Debug)]
struct Term {
    agent: Arc<Agent>,
    /// `None`: for ever.
    until: Option<Instant>,
    over: CancellationToken,
}

impl Term {
    fn is_good(&self) -> bool {
        !self.over.is_cancelled() && self.until.is_none_or(|until| Instant::now() < until)
    }
}

impl Identity {
    /// As leased, to act until `until`.
    #[must_use]
    pub fn leased(agent: Agent, until: Instant) -> Self {
        Identity(Arc::new(Mutex::new(Term { agent: Arc::new(agent), until: Some(until), over: CancellationToken::new() })))
    }

    /// One that does not end, where there is nobody else.
    #[must_use]
    pub fn of_the_only(agent: Agent) -> Self {
        Identity(Arc::new(Mutex::new(Term { agent: Arc::new(agent), until: None, over: CancellationToken::new() })))
    }

    /// The agent as it was leased last, whether it may act or not.
    #[must_use]
    pub fn agent(&self) -> Arc<Agent> {
        Arc::clone(&self.term().agent)
    }

    /// The agent, if it may act under its ids now.
    #[must_use]
    pub fn acting(&self) -> Option<Arc<Agent>> {
        let term = self.term();
        term.is_good().then(|| Arc::clone(&term.agent))
    }

    /// When it may not act any more, unless its lease is renewed.
    #[must_use]
    pub fn until(&self) -> Option<Instant> {
        self.term().until
    }

    /// Cancelled when this agent may not go on with what it does now, even if it gets its ids back later.
    #[must_use]
    pub fn over(&self) -> CancellationToken {
        self.term().over.clone()
    }

    /// The lease holds until `until`. After a loss a new term begins.
    pub fn renew(&self, agent: Agent, until: Instant) {
        let mut term = self.term();
        if !term.is_good() {
            term.over.cancel();
            term.over = CancellationToken::new();
        }
        if *term.agent != agent {
            term.agent = Arc::new(agent);
        }
        term.until = Some(until);
    }

    /// From now on it may not act.
    pub fn lose(&self) {
        self.term().over.cancel();
    }

    fn term(&self) -> MutexGuard<'_, Term> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

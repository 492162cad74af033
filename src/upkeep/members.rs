//! Who the other agents are: looked up from time to time, and at once when somebody has reason to believe that it has changed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::metastore::{Identity, Leases, Members, MetaError, PeerSecrets};
use crate::tasks::{Nudge, Progress, Tasks};

/// Looks that were asked for are at least this far apart: a peer that is gone is missed by many requests at once.
const APART: Duration = Duration::from_secs(1);

/// The agents as this one sees them: those known last while the metastore cannot be asked.
#[derive(Debug, Clone)]
pub struct Membership {
    seen: watch::Receiver<Arc<Members>>,
    look: Nudge,
}

impl Membership {
    /// Looks at once, and then every `poll` in `tasks`. Until a look succeeds, `me` is alone with `proposal`, which is the secret if there is none yet.
    pub async fn start(leases: Arc<dyn Leases>, me: Identity, poll: Duration, proposal: [u8; 32], tasks: &Tasks) -> Membership {
        // Who is there at the first look has not joined since.
        let first = see(&*leases, &me, proposal).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "the other agents cannot be looked up yet");
            let secrets = PeerSecrets { current: proposal, previous: None };
            Members { me: me.agent(), live: vec![(*me.agent()).clone()], secrets }
        });
        let (publish, seen) = watch::channel(Arc::new(first));
        let look = Nudge::default();
        let (publish, looked) = (Arc::new(publish), Arc::new(Mutex::new(None)));
        tasks.spawn_loop("members", poll, look.clone(), move || {
            let (leases, me, publish, looked) = (Arc::clone(&leases), me.clone(), Arc::clone(&publish), Arc::clone(&looked));
            async move {
                if let Some(early) = too_early(&looked) {
                    return Progress::Retry(early);
                }
                match see(&*leases, &me, proposal).await {
                    Ok(members) => publish_changed(&publish, members),
                    Err(error) => tracing::debug!(%error, "the other agents cannot be looked up; those known last are used"),
                }
                Progress::Idle
            }
        });
        Membership { seen, look }
    }

    /// The agents known now, and every change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Members>> {
        self.seen.clone()
    }

    /// Nudge it to look again soon.
    #[must_use]
    pub fn look(&self) -> Nudge {
        self.look.clone()
    }
}

/// How long to wait until the next look is due; `None` if it is due now, and then it counts as done.
fn too_early(looked: &Mutex<Option<Instant>>) -> Option<Duration> {
    let mut looked = looked.lock().unwrap_or_else(PoisonError::into_inner);
    let early = looked.map(|at| APART.saturating_sub(at.elapsed())).filter(|early| !early.is_zero());
    if early.is_none() {
        *looked = Some(Instant::now());
    }
    early
}

async fn see(leases: &dyn Leases, me: &Identity, proposal: [u8; 32]) -> Result<Members, MetaError> {
    let secrets = leases.peer_secrets(proposal).await?;
    let live = leases.live_agents().await?;
    Ok(Members { me: me.agent(), live, secrets })
}

fn publish_changed(publish: &watch::Sender<Arc<Members>>, members: Members) {
    publish.send_if_modified(|known| {
        let changed = **known != members;
        if changed {
            *known = Arc::new(members);
        }
        changed
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{RandomIds, SystemClock};
    use crate::metastore::flaky::Flaky;
    use crate::metastore::memory::MemoryMetastore;
    use crate::metastore::{Agent, LeaseOutcome};
    use crate::types::NodeId;

    const TTL: Duration = Duration::from_hours(1);
    const POLL: Duration = Duration::from_secs(10);

    fn agent(number: u8) -> Agent {
        Agent {
            node: NodeId(0),
            broker: NodeId(0),
            peer_address: Some(format!("host-{number}:9080")),
            ..Agent::sample(i32::from(number), &format!("host-{number}"))
        }
    }

    async fn join(leases: &dyn Leases, number: u8) -> Agent {
        match leases.acquire_lease(None, &agent(number), TTL).await.expect("leased") {
            LeaseOutcome::Granted(agent) => agent,
            LeaseOutcome::Held(by) => panic!("held by {by:?}"),
        }
    }

    fn nodes(members: &Members) -> Vec<i32> {
        members.live.iter().map(|agent| agent.node.0).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn agents_are_seen_from_time_to_time_at_once_and_in_an_outage() {
        let memory = Arc::new(MemoryMetastore::new(Arc::new(SystemClock)));
        let flaky = Arc::new(Flaky::new(memory, Arc::new(RandomIds::seeded(SystemClock, 1))));
        let me = join(&*flaky, 1).await;
        let tasks = Tasks::new();
        let membership = Membership::start(Arc::clone(&flaky) as _, Identity::of_the_only(me.clone()), POLL, [7; 32], &tasks).await;
        let mut seen = membership.watch();
        assert_eq!(seen.borrow_and_update().live, std::slice::from_ref(&me), "alone");
        let other = join(&*flaky, 2).await;
        let began = Instant::now();
        membership.look().nudge();
        seen.changed().await.expect("it looks");
        assert!(began.elapsed() < POLL, "it looked because it was asked to");
        assert_eq!(
            *seen.borrow_and_update().clone(),
            Members { me: Arc::new(me), live: vec![agent(1), other], secrets: PeerSecrets { current: [7; 32], previous: None } }
        );
        flaky.switch_off();
        tokio::time::sleep(POLL * 3).await;
        assert!(!seen.has_changed().expect("alive"), "those known last");
        flaky.switch_on();
        join(&*flaky, 3).await;
        flaky.rotate_peer_secret([8; 32]).await.expect("rotated");
        seen.changed().await.expect("it looks without being asked");
        let now = seen.borrow_and_update().clone();
        assert_eq!((nodes(&now), now.secrets.current, now.secrets.previous), (vec![0, 1, 2], [8; 32], Some([7; 32])));
        assert!(tasks.stop(POLL).await);
    }
}

//! Agents that join. Clients would not notice for minutes (librdkafka and Java ask for metadata every five), and behind a balancer never:
//! connections stay where they are. So when an agent sees another join, the connections of its own clients end in good order: clients ask
//! who leads what, the balancer chooses again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::metastore::{Agent, Leases};
use crate::server::Shedder;
use crate::tasks::{Nudge, Progress, Tasks};

/// Over how long connections are ended: not all clients are to come back at the same moment.
const SPREAD: Duration = Duration::from_secs(10);

/// Looks for agents that have joined every `period`, in `tasks`.
pub(super) fn watch(leases: Arc<dyn Leases>, me: Agent, period: Duration, shedder: Shedder, tasks: &Tasks) {
    let known = Arc::new(Mutex::new(None));
    tasks.spawn_loop("newcomers", period, Nudge::default(), move || {
        let (leases, me, shedder, known) = (Arc::clone(&leases), me.clone(), shedder.clone(), Arc::clone(&known));
        async move {
            match leases.live_agents().await {
                Ok(live) => {
                    let joined = joined(&mut known.lock().unwrap_or_else(PoisonError::into_inner), &live, &me);
                    if joined {
                        let connections = shedder.shed(SPREAD);
                        tracing::info!(connections, "an agent has joined; connections end, so that their clients learn of it");
                    }
                }
                Err(error) => tracing::debug!(%error, "the live agents cannot be asked for; the next look comes soon"),
            }
            Progress::Idle
        }
    });
}

/// Whether any other agent is among `live` that was not at the last look. Who is there at the first one has not joined since.
fn joined(known: &mut Option<BTreeSet<[u8; 16]>>, live: &[Agent], me: &Agent) -> bool {
    let now: BTreeSet<[u8; 16]> = live.iter().map(|agent| agent.instance).collect();
    let Some(before) = known.replace(now.clone()) else { return false };
    now.difference(&before).any(|instance| *instance != me.instance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;

    fn agent(number: u8) -> Agent {
        Agent {
            node: NodeId(i32::from(number)),
            instance: [number; 16],
            advertised_host: "localhost".to_owned(),
            advertised_port: 9092,
            rack: None,
            version: String::new(),
        }
    }

    #[test]
    fn who_comes_has_joined_and_who_was_there_or_goes_has_not() {
        let [a, b, c] = [0, 1, 2].map(agent);
        let mut known = None;
        let mut look = |live: &[&Agent]| joined(&mut known, &live.iter().map(|agent| (*agent).clone()).collect::<Vec<_>>(), &a);
        assert!(!look(&[&a, &b]));
        assert!(look(&[&a, &b, &c]));
        assert!(!look(&[&a, &b, &c]));
        assert!(!look(&[&b]));
        assert!(!look(&[&a, &b]), "only this agent was missing");
        assert!(look(&[&a, &b, &c]));
    }
}

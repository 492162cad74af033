//! Agents that join: clients learn of them when they look around, and that they do when a connection ends.
//!
//! Left alone, clients that are at rest would stay where they are for minutes (they refresh metadata every five), or for ever (behind a balancer).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::metastore::{Agent, Members};
use crate::server::{Shedding, When};
use crate::tasks::Tasks;
use crate::upkeep::Membership;

/// Ends connections in `tasks` whenever somebody joins, over the time `over`, so that not all clients come back at once.
pub(super) fn share_with_newcomers(membership: &Membership, shedding: Shedding, over: Duration, tasks: &Tasks) {
    let (mut seen, stop) = (membership.watch(), tasks.stop_token());
    tasks.spawn("share_with_newcomers", async move {
        let mut known = seen.borrow_and_update().clone();
        while let Some(Ok(())) = stop.run_until_cancelled(seen.changed()).await {
            let now = seen.borrow_and_update().clone();
            let (share, when) = share(&known, &now);
            if share > 0.0 {
                tracing::info!(
                    agents = now.live.len(),
                    share,
                    ?when,
                    "an agent has joined; connections are ended in good order, so that it gets some"
                );
                stop.run_until_cancelled(shedding.shed(share, when, over)).await;
            }
            known = now;
        }
    });
}

/// The part of this agent's connections that is to end, and when. Behind the address of a newcomer a balancer deals anew what is ended. Elsewhere no
/// client knows of the newcomer: all are to look.
fn share(known: &Arc<Members>, now: &Arc<Members>) -> (f64, When) {
    let before: BTreeSet<[u8; 16]> = known.live.iter().map(|agent| agent.instance).collect();
    let is_new = |agent: &&Agent| !before.contains(&agent.instance) && agent.instance != now.me.instance;
    let (here, elsewhere): (Vec<&Agent>, Vec<&Agent>) = now.live.iter().filter(is_new).partition(|agent| agent.shares_address(&now.me));
    let together = now.live.iter().filter(|agent| agent.shares_address(&now.me)).count().max(1);
    if elsewhere.is_empty() { (dealt_anew(here.len() as f64 / together as f64), When::Now) } else { (1.0, When::Asked) }
}

/// What is ended so that newcomers get this share. A balancer that does not know how many connections each agent has (nginx after a reload, most in the
/// clouds) deals what is ended among all alike: up to four agents, all must be dealt anew. In large clusters so many are not worth it.
fn dealt_anew(share: f64) -> f64 {
    (4.0 * share).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metastore::PeerSecrets;

    fn members(agents: &[(u8, &str)]) -> Arc<Members> {
        let agent = |(number, host): &(u8, &str)| Agent::sample(i32::from(*number), host);
        let secrets = PeerSecrets { current: [0; 32], previous: None };
        Arc::new(Members { me: Arc::new(agent(&agents[0])), live: agents.iter().map(agent).collect(), secrets })
    }

    #[test]
    fn newcomers_get_their_share() {
        let two = members(&[(1, "lb"), (2, "lb")]);
        for (now, expected, then) in [
            (vec![(1, "lb"), (2, "lb")], 0.0, When::Now),
            (vec![(1, "lb")], 0.0, When::Now),
            (vec![(1, "lb"), (2, "lb"), (3, "lb")], 1.0, When::Now),
            (vec![(1, "lb"), (4, "lb")], 1.0, When::Now),
            (vec![(1, "lb"), (2, "lb"), (3, "direct")], 1.0, When::Asked),
        ] {
            let (share, when) = share(&two, &members(&now));
            assert!((share - expected).abs() < 1e-9 && when == then, "{now:?}: {share} {when:?}");
        }
    }

    #[test]
    fn small_clusters_are_dealt_anew_and_large_ones_in_part() {
        for (share, expected) in [(0.0, 0.0), (0.1, 0.4), (0.25, 1.0), (0.5, 1.0)] {
            assert!((dealt_anew(share) - expected).abs() < 1e-9, "{share}");
        }
    }
}

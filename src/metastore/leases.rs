//! Who the agents are: node ids and how they are given, and what peers share. Pure.

use super::{Agent, MetaError};
use crate::types::NodeId;

/// What peers prove with that they belong to the same cluster. The previous one is accepted until the next rotation, since not every agent hears of
/// a rotation at the same moment.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerSecrets {
    pub current: [u8; 32],
    pub previous: Option<[u8; 32]>,
}

impl PeerSecrets {
    /// After a rotation to `next`; the same again if it was done already.
    pub(super) fn rotated_to(&self, next: [u8; 32]) -> PeerSecrets {
        if self.current == next { self.clone() } else { PeerSecrets { current: next, previous: Some(self.current) } }
    }
}

/// Never shown.
impl std::fmt::Debug for PeerSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerSecrets").field("has_previous", &self.previous.is_some()).finish_non_exhaustive()
    }
}

impl Agent {
    /// Clients cannot tell the two apart.
    #[must_use]
    pub fn shares_address(&self, other: &Agent) -> bool {
        self.advertised_host == other.advertised_host && self.advertised_port == other.advertised_port
    }
}

/// Why an agent that has lost this node id cannot write under it.
pub(super) fn id_was_taken(node: NodeId) -> MetaError {
    MetaError::Unavailable(format!("another agent has the lease of node id {node}, under which this was to be written"))
}

/// What is to become of a request for a node id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Grant {
    /// Another live agent has the id.
    Held(Agent),
    Store {
        /// With its ids.
        agent: Agent,
        /// Agents at another address that have to be known by another id from now on, since theirs was asked for.
        renamed: Vec<Agent>,
    },
}

/// Gives `agent` the node id it wants, the one it has, or the lowest free one.
///
/// An address keeps the broker id under which clients know it for as long as any agent lives there: it is the node id of the first of them, and nobody
/// elsewhere gets that one meanwhile unless he is told to have it.
pub(super) fn grant(live: &[Agent], wanted: Option<NodeId>, agent: &Agent) -> Grant {
    let others = || live.iter().filter(|other| other.instance != agent.instance);
    let known_as = |id: NodeId| others().any(|other| other.broker == id && !other.shares_address(agent));
    let free = |id: &NodeId| !known_as(*id) && others().all(|other| other.node != *id);
    let mine = || live.iter().find(|a| a.instance == agent.instance).map(|a| a.node);
    let node = wanted.or_else(mine).or_else(|| (0..=i32::MAX).map(NodeId).find(free)).unwrap_or(NodeId(0));
    if let Some(holder) = others().find(|other| other.node == node) {
        return Grant::Held(holder.clone());
    }
    let broker = live.iter().filter(|other| other.shares_address(agent)).map(|other| other.broker).min();
    // All of an address may have been cut off together: the first to come back brings the id with it.
    let before = Some(agent.broker).filter(|id| id.0 >= 0 && !known_as(*id) && others().all(|o| o.node != *id || o.shares_address(agent)));
    let renamed = others().filter(|other| other.broker == node && !other.shares_address(agent));
    let first_at = |address: &Agent| others().filter(|other| other.shares_address(address)).map(|other| other.node).min();
    let renamed = renamed.map(|other| Agent { broker: first_at(other).unwrap_or(other.node), ..other.clone() }).collect();
    Grant::Store { agent: Agent { node, broker: broker.or(before).unwrap_or(node), ..agent.clone() }, renamed }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn agent(instance: u8, host: &str) -> Agent {
        Agent { node: NodeId(-1), broker: NodeId(-1), ..Agent::sample(i32::from(instance), host) }
    }

    fn join(live: &mut Vec<Agent>, wanted: Option<i32>, agent: &Agent) -> bool {
        let Grant::Store { agent, renamed } = grant(live, wanted.map(NodeId), agent) else { return false };
        for renamed in renamed {
            live.iter_mut().filter(|a| a.node == renamed.node).for_each(|a| *a = renamed.clone());
        }
        live.retain(|a| a.node != agent.node && a.instance != agent.instance);
        live.push(agent);
        true
    }

    fn ids(live: &[Agent]) -> Vec<(i32, i32)> {
        live.iter().map(|a| (a.node.0, a.broker.0)).collect()
    }

    #[test]
    fn an_address_keeps_its_id_when_the_first_agent_leaves() {
        let mut live = Vec::new();
        assert!(join(&mut live, None, &agent(1, "lb")) && join(&mut live, None, &agent(2, "lb")));
        assert_eq!(ids(&live), [(0, 0), (1, 0)]);
        live.remove(0);
        assert!(join(&mut live, None, &agent(3, "elsewhere")));
        assert_eq!(ids(&live), [(1, 0), (2, 2)], "the id 0 is what clients know the balancer by");
        assert!(join(&mut live, None, &agent(4, "lb")));
        assert_eq!(ids(&live), [(1, 0), (2, 2), (0, 0)]);
    }

    #[test]
    fn an_address_that_was_cut_off_whole_has_its_id_again() {
        let mut live = Vec::new();
        assert!(join(&mut live, None, &agent(1, "lb")) && join(&mut live, None, &agent(2, "lb")));
        let back: Vec<Agent> = live.drain(..).rev().collect();
        assert!(join(&mut live, Some(1), &back[0]) && join(&mut live, Some(0), &back[1]));
        assert_eq!(ids(&live), [(1, 0), (0, 0)]);
        live.clear();
        assert!(join(&mut live, None, &agent(3, "direct")) && join(&mut live, Some(1), &back[0]));
        assert_eq!(ids(&live), [(0, 0), (1, 1)], "unless another has it");
    }

    #[test]
    fn who_is_told_to_have_an_id_gets_it_from_an_address() {
        let mut live = Vec::new();
        assert!(join(&mut live, None, &agent(1, "lb")) && join(&mut live, None, &agent(2, "lb")));
        live.remove(0);
        assert!(join(&mut live, Some(0), &agent(3, "direct")));
        assert_eq!(ids(&live), [(1, 1), (0, 0)]);
        assert!(!join(&mut live, Some(1), &agent(4, "direct")), "a node id is never taken from a live agent");
    }

    proptest! {
        /// Whoever comes and goes: a node id has one agent, a broker id one address and an address one broker id, which stays unless it was asked for.
        #[test]
        fn ids_are_unique_and_stay(steps in prop::collection::vec((0u8..12, 0u8..4, prop::option::weighted(0.2, 0i32..6), any::<bool>()), 1..80)) {
            let mut live: Vec<Agent> = Vec::new();
            for (instance, host, wanted, joins) in steps {
                let before = live.clone();
                let known = live.iter().any(|a| a.instance == [instance; 16]);
                if joins && !known {
                    join(&mut live, wanted, &agent(instance, &host.to_string()));
                } else {
                    live.retain(|a| a.instance != [instance; 16]);
                }
                let (mut nodes, mut brokers, mut addresses) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
                for a in &live {
                    prop_assert!(nodes.insert(a.node, a.instance).is_none());
                    prop_assert_eq!(brokers.entry(a.broker).or_insert(&a.advertised_host), &&a.advertised_host);
                    prop_assert_eq!(*addresses.entry(&a.advertised_host).or_insert(a.broker), a.broker);
                    let others = live.iter().filter(|b| !b.shares_address(a));
                    prop_assert!(others.clone().all(|b| b.node != a.broker && b.broker != a.node), "{:?}", live);
                    let was = before.iter().find(|b| b.shares_address(a)).map(|b| b.broker);
                    prop_assert!(wanted.is_some() || was.is_none_or(|was| was == a.broker));
                }
            }
        }
    }
}

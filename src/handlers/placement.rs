//! Which node leads which partition. Any agent can serve any partition: leadership only spreads clients over agents.

use crate::metastore::Agent;
use crate::types::{NodeId, TopicPartition, fnv1a};

/// What clients take for a broker: one advertised address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) rack: Option<String>,
}

impl Node {
    fn of(agent: &Agent) -> Node {
        Node { id: agent.node, host: agent.advertised_host.clone(), port: agent.advertised_port, rack: agent.rack.clone() }
    }
}

/// The nodes of these agents, in order of id. Agents that share an address (behind one load balancer) are one node, with the lowest of their ids: a client
/// that asked for one of several nodes at one address would reach any of them.
pub(super) fn nodes(agents: &[Agent]) -> Vec<Node> {
    let mut agents: Vec<&Agent> = agents.iter().collect();
    agents.sort_by_key(|agent| agent.node);
    let mut nodes: Vec<Node> = Vec::new();
    for agent in agents {
        let known = |node: &Node| node.host == agent.advertised_host && node.port == agent.advertised_port;
        if !nodes.iter().any(known) {
            nodes.push(Node::of(agent));
        }
    }
    nodes
}

/// The leader of a partition: the node with the highest hash of both (rendezvous), so that a node that comes or goes moves only its own share. The
/// same on every agent that sees the same nodes. -1 without nodes.
pub(super) fn leader(log: TopicPartition, nodes: &[Node]) -> NodeId {
    nodes.iter().map(|node| node.id).max_by_key(|id| (weight(log, *id), *id)).unwrap_or(NodeId(-1))
}

/// The node that members of a group are sent to, by the same rule. Any other would do.
pub(super) fn coordinator<'a>(key: &str, nodes: &'a [Node]) -> Option<&'a Node> {
    nodes.iter().max_by_key(|node| (weight_of(key.as_bytes(), node.id), node.id))
}

/// The controller: some node that exists, the same for everybody.
pub(super) fn controller(nodes: &[Node]) -> NodeId {
    nodes.iter().map(|node| node.id).min().unwrap_or(NodeId(-1))
}

fn weight(log: TopicPartition, node: NodeId) -> u64 {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&log.topic.0);
    key[16..20].copy_from_slice(&log.partition.0.to_be_bytes());
    key[20..].copy_from_slice(&node.0.to_be_bytes());
    mixed(fnv1a(&key))
}

fn weight_of(key: &[u8], node: NodeId) -> u64 {
    mixed(fnv1a(&[key, &node.0.to_be_bytes()].concat()))
}

/// Spreads the last bytes of a key over all bits (the end of SplitMix64), which FNV alone does not.
fn mixed(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TopicId;

    fn agent(id: i32, host: &str) -> Agent {
        Agent {
            node: NodeId(id),
            broker: NodeId(id),
            instance: [id as u8; 16],
            advertised_host: host.to_owned(),
            advertised_port: 9092,
            peer_address: None,
            rack: None,
            version: String::new(),
        }
    }

    #[test]
    fn agents_behind_one_address_are_one_node() {
        let nodes = nodes(&[agent(3, "b"), agent(2, "a"), agent(1, "b")]);
        assert_eq!(nodes.iter().map(|n| (n.id.0, n.host.as_str())).collect::<Vec<_>>(), [(1, "b"), (2, "a")]);
        assert_eq!(controller(&nodes), NodeId(1));
    }

    #[test]
    fn leaders_are_spread_and_only_a_lost_nodes_share_moves() {
        let all = nodes(&[agent(0, "a"), agent(1, "b"), agent(2, "c")]);
        let logs: Vec<_> = (0..3_000).map(|p| TopicPartition::new(TopicId([9; 16]), p)).collect();
        for node in &all {
            let led = logs.iter().filter(|log| leader(**log, &all) == node.id).count();
            assert!((800..1_200).contains(&led), "node {} leads {led} of 3000", node.id);
        }
        for log in &logs {
            let before = leader(*log, &all);
            assert!(before == NodeId(2) || leader(*log, &all[..2]) == before);
        }
        assert_eq!(leader(logs[0], &[]), NodeId(-1));
    }
}

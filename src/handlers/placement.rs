//! Which node leads which partition. Any agent can serve any partition: leadership only spreads clients over agents, those of a rack over the agents
//! of that rack.

use crate::metastore::Agent;
use crate::types::{NodeId, TopicPartition, fnv1a};

/// What clients take for a broker: one advertised address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) host: String,
    pub(super) port: u16,
    /// That of all agents at the address; `None` if they are in several.
    pub(super) rack: Option<String>,
}

impl Node {
    fn of(agent: &Agent) -> Node {
        Node { id: agent.broker, host: agent.advertised_host.clone(), port: agent.advertised_port, rack: agent.rack.clone() }
    }

    pub(super) fn is_in(&self, rack: &str) -> bool {
        self.rack.as_deref() == Some(rack)
    }
}

/// The nodes of these agents, in order of id. Agents that share an address (behind one load balancer) are one node: a client that asked for one of
/// several nodes at one address would reach any of them.
pub(super) fn nodes(agents: &[Agent]) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for agent in agents {
        let known = |node: &&mut Node| node.host == agent.advertised_host && node.port == agent.advertised_port;
        match nodes.iter_mut().find(known) {
            None => nodes.push(Node::of(agent)),
            Some(node) => {
                node.id = node.id.min(agent.broker);
                node.rack = node.rack.take().filter(|rack| agent.rack.as_ref() == Some(rack));
            }
        }
    }
    nodes.sort_by_key(|node| node.id);
    nodes
}

/// Who leads what, as one client is told.
#[derive(Debug)]
pub(super) struct Leaders<'a> {
    /// The nodes of the client's rack; all if it has none.
    leading: Vec<&'a Node>,
    /// The nodes of each other rack.
    elsewhere: Vec<Vec<&'a Node>>,
}

impl<'a> Leaders<'a> {
    pub(super) fn for_client(nodes: &'a [Node], rack: Option<&str>) -> Leaders<'a> {
        let mut leading: Vec<&Node> = nodes.iter().filter(|node| rack.is_some_and(|rack| node.is_in(rack))).collect();
        if leading.is_empty() {
            leading = nodes.iter().collect();
        }
        let mut racks: Vec<&str> = nodes.iter().filter_map(|node| node.rack.as_deref()).collect();
        racks.sort_unstable();
        racks.dedup();
        let elsewhere = racks.iter().map(|rack| nodes.iter().filter(|node| node.is_in(rack)).collect()).collect();
        Leaders { leading, elsewhere }
    }

    /// The leader of a partition: the node with the highest hash of both (rendezvous), so that a node that comes or goes moves only its own share. The
    /// same on every agent that sees the same nodes. -1 without nodes.
    pub(super) fn of(&self, log: TopicPartition) -> NodeId {
        first(log, self.leading.iter().copied()).map_or(NodeId(-1), |node| node.id)
    }

    /// The leader, then whoever leads for the clients of each other rack: consumers may be sent there (KIP-392), and go only where they have seen a replica.
    pub(super) fn replicas(&self, log: TopicPartition) -> Vec<NodeId> {
        let mut replicas: Vec<NodeId> = first(log, self.leading.iter().copied()).map(|node| node.id).into_iter().collect();
        let led_from = first(log, self.leading.iter().copied()).and_then(|node| node.rack.as_deref());
        for nodes in &self.elsewhere {
            let nearest = first(log, nodes.iter().copied()).filter(|node| node.rack.as_deref() != led_from);
            replicas.extend(nearest.map(|node| node.id));
        }
        replicas
    }
}

/// As for clients of which nothing is known.
pub(super) fn leader(log: TopicPartition, nodes: &[Node]) -> NodeId {
    first(log, nodes.iter()).map_or(NodeId(-1), |node| node.id)
}

/// The node that members of a group are sent to, by the same rule, but wherever they are: they belong together. Any other would do.
pub(super) fn coordinator<'a>(key: &str, nodes: &'a [Node]) -> Option<&'a Node> {
    nodes.iter().max_by_key(|node| (weight_of(key.as_bytes(), node.id), node.id))
}

/// The controller: some node that exists, the same for everybody.
pub(super) fn controller(nodes: &[Node]) -> NodeId {
    nodes.iter().map(|node| node.id).min().unwrap_or(NodeId(-1))
}

fn first<'a>(log: TopicPartition, nodes: impl Iterator<Item = &'a Node>) -> Option<&'a Node> {
    nodes.max_by_key(|node| (weight(log, node.id), node.id))
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
#[path = "placement_tests.rs"]
mod tests;

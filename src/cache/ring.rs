//! Who owns a chunk: rendezvous hashing over the agents of one rack.
//!
//! Each agent gets a score for the chunk, and the highest one owns it. An agent that comes or goes changes no score of the others, so only its own share
//! moves. Agents that know the same members agree without a word.

use crate::types::{NodeId, ObjectId, fnv1a};

/// An agent that lends out of its cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub node: NodeId,
    /// `host:port`.
    pub address: String,
}

/// The agents that share their caches, seen from one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    me: NodeId,
    /// Without this agent.
    others: Vec<Peer>,
}

impl Ring {
    /// The ring of `me` and `members`, of which `me` may be one.
    #[must_use]
    pub fn new(me: NodeId, members: Vec<Peer>) -> Ring {
        let mut others = members;
        others.retain(|peer| peer.node != me);
        others.sort_unstable_by_key(|peer| peer.node);
        others.dedup_by_key(|peer| peer.node);
        Ring { me, others }
    }

    /// Agents in the ring, this one included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.others.len() + 1
    }

    /// Never: this agent is always in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The peer that owns this chunk; `None` if this agent does.
    #[must_use]
    pub fn owner(&self, object: ObjectId, chunk: u64) -> Option<&Peer> {
        let chunk = fnv1a(&object.0) ^ mixed(chunk);
        let mine = (score(chunk, self.me), self.me);
        let best = self.others.iter().map(|peer| ((score(chunk, peer.node), peer.node), peer)).max_by_key(|(rank, _)| *rank);
        best.filter(|(rank, _)| *rank > mine).map(|(_, peer)| peer)
    }

    /// The peer with this id, if it is in the ring and not this agent.
    #[must_use]
    pub fn peer(&self, node: NodeId) -> Option<&Peer> {
        self.others.iter().find(|peer| peer.node == node)
    }

    pub(super) fn peers(&self) -> &[Peer] {
        &self.others
    }
}

fn score(chunk: u64, node: NodeId) -> u64 {
    mixed(chunk ^ mixed(u64::from(node.0.cast_unsigned())))
}

/// Every bit of the outcome depends on every bit of `number` (the finalizer of SplitMix64).
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn peers(nodes: &BTreeSet<i32>) -> Vec<Peer> {
        nodes.iter().map(|node| Peer { node: NodeId(*node), address: format!("10.0.0.{node}:9080") }).collect()
    }

    /// The owner as `me` sees it.
    fn owner(me: i32, nodes: &BTreeSet<i32>, object: ObjectId, chunk: u64) -> i32 {
        Ring::new(NodeId(me), peers(nodes)).owner(object, chunk).map_or(me, |peer| peer.node.0)
    }

    fn nodes() -> impl Strategy<Value = BTreeSet<i32>> {
        prop::collection::btree_set(0i32..1_000, 2..12)
    }

    proptest! {
        #[test]
        fn all_members_agree_on_one_owner(nodes in nodes(), object: [u8; 16], chunk in 0u64..50) {
            let owners: BTreeSet<i32> = nodes.iter().map(|me| owner(*me, &nodes, ObjectId(object), chunk)).collect();
            prop_assert_eq!(owners.len(), 1);
        }

        #[test]
        fn only_the_share_of_a_lost_agent_moves(nodes in nodes(), objects in prop::collection::vec(any::<[u8; 16]>(), 1..40), chunk in 0u64..9) {
            let mut rest = nodes.clone();
            let (lost, me) = (rest.pop_first().expect("two"), *nodes.last().expect("two"));
            for object in objects.into_iter().map(ObjectId) {
                let (before, after) = (owner(me, &nodes, object, chunk), owner(me, &rest, object, chunk));
                prop_assert!(before == after || before == lost, "{before} lost a chunk to {after}");
                prop_assert_ne!(after, lost);
            }
        }

        #[test]
        fn shares_are_about_equal(nodes in nodes(), seed: u64) {
            let (mut shares, chunks) = (BTreeMap::new(), 3_000u64);
            for number in 0..chunks / 3 {
                // Ids as they are: alike in their heads and, from one maker, in their tails.
                let mut id = [7; 16];
                id[4..12].copy_from_slice(&(seed.wrapping_add(number)).to_be_bytes());
                for chunk in 0..3 {
                    *shares.entry(owner(*nodes.first().expect("two"), &nodes, ObjectId(id), chunk)).or_insert(0u64) += 1;
                }
            }
            let fair = chunks / nodes.len() as u64;
            for node in &nodes {
                let share = shares.get(node).copied().unwrap_or(0);
                // Six standard deviations and more, for the smallest share there is here.
                prop_assert!(share > fair / 2 && share < fair * 3 / 2, "{node}: {share} of {chunks}, {fair} would be fair");
            }
        }
    }

    #[test]
    fn one_alone_owns_everything_and_knows_the_others() {
        let ring = Ring::new(NodeId(1), vec![]);
        assert_eq!((ring.len(), ring.owner(ObjectId([3; 16]), 0)), (1, None));
        let ring = Ring::new(NodeId(1), peers(&[1, 2].into()));
        assert_eq!(ring.len(), 2);
        assert_eq!(ring.peer(NodeId(2)).map(|peer| peer.address.as_str()), Some("10.0.0.2:9080"));
        assert_eq!((ring.peer(NodeId(1)), ring.peer(NodeId(3))), (None, None));
    }
}

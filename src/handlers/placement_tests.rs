use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::types::TopicId;

fn agent(id: i32, host: &str, rack: Option<&str>) -> Agent {
    Agent { rack: rack.map(str::to_owned), ..Agent::sample(id, host) }
}

/// A node of its own address.
fn node(id: i32, rack: Option<&str>) -> Node {
    Node::of(&agent(id, &format!("host-{id}"), rack))
}

fn logs(count: i32) -> Vec<TopicPartition> {
    (0..count).map(|p| TopicPartition::new(TopicId([9; 16]), p)).collect()
}

#[test]
fn agents_behind_one_address_are_one_node() {
    let shared = |id| Agent { broker: NodeId(7), ..agent(id, "b", Some("r")) };
    let found = nodes(&[agent(9, "a", None), shared(1), shared(3)]);
    assert_eq!(found.iter().map(|n| (n.id.0, n.host.as_str())).collect::<Vec<_>>(), [(7, "b"), (9, "a")]);
    assert_eq!(controller(&found), NodeId(7));
    assert!(found[0].is_in("r"));
    let across = nodes(&[shared(1), Agent { rack: Some("s".to_owned()), ..shared(3) }]);
    assert_eq!(across[0].rack, None, "in both racks is in none");
}

#[test]
fn a_rack_without_agents_is_led_by_all() {
    let nodes = [node(0, Some("a")), node(1, Some("b")), node(2, None)];
    let (everybody, nobody) = (Leaders::for_client(&nodes, None), Leaders::for_client(&nodes, Some("z")));
    assert!(logs(100).iter().all(|log| everybody.of(*log) == nobody.of(*log) && everybody.of(*log) == leader(*log, &nodes)));
    let none = Leaders::for_client(&[], Some("a"));
    assert_eq!((none.of(logs(1)[0]), none.replicas(logs(1)[0])), (NodeId(-1), vec![]));
}

#[test]
fn a_cluster_of_one_rack_has_one_replica() {
    let nodes = [node(0, Some("a")), node(1, Some("a")), node(2, Some("a"))];
    let leaders = Leaders::for_client(&nodes, None);
    assert!(logs(100).iter().all(|log| leaders.replicas(*log) == [leaders.of(*log)]));
}

fn racked() -> impl Strategy<Value = BTreeMap<i32, Option<u8>>> {
    prop::collection::btree_map(0i32..1_000, prop::option::of(0u8..3), 1..12)
}

fn build(nodes: &BTreeMap<i32, Option<u8>>) -> Vec<Node> {
    nodes.iter().map(|(id, rack)| node(*id, rack.map(|rack| rack.to_string()).as_deref())).collect()
}

proptest! {
    /// Every node of a rack leads its share for the clients of that rack, and nobody else leads any.
    #[test]
    fn leaders_are_spread_over_the_rack(nodes in racked(), rack in 0u8..3) {
        let (all, rack) = (build(&nodes), rack.to_string());
        let mine: Vec<&Node> = all.iter().filter(|node| node.is_in(&rack)).collect();
        let candidates = if mine.is_empty() { all.iter().collect() } else { mine };
        let leaders = Leaders::for_client(&all, Some(&rack));
        let mut led: BTreeMap<NodeId, usize> = BTreeMap::new();
        for log in logs(2_000) {
            *led.entry(leaders.of(log)).or_default() += 1;
        }
        let share = 2_000 / candidates.len();
        prop_assert!(led.keys().all(|id| candidates.iter().any(|node| node.id == *id)));
        for node in candidates {
            let count = led.get(&node.id).copied().unwrap_or(0);
            prop_assert!(count > share / 2 && count < share * 2, "{} leads {count} instead of {share}", node.id);
        }
    }

    /// Whoever comes takes only what it leads from then on; whoever goes leaves all else where it was; and another rack sees nothing of it.
    #[test]
    fn one_that_comes_or_goes_moves_only_its_share(nodes in racked(), rack in prop::option::of(0u8..3), pick in any::<prop::sample::Index>()) {
        let rack = rack.map(|rack| rack.to_string());
        let with = build(&nodes);
        let changed = pick.get(&with).clone();
        let without: Vec<Node> = with.iter().filter(|node| **node != changed).cloned().collect();
        let is_left = rack.as_deref().is_none_or(|rack| without.iter().any(|node| node.is_in(rack)));
        let (before, after) = (Leaders::for_client(&with, rack.as_deref()), Leaders::for_client(&without, rack.as_deref()));
        for log in logs(200) {
            let (with, without) = (before.of(log), after.of(log));
            if is_left || with != changed.id && rack.as_deref().is_none_or(|rack| !changed.is_in(rack)) {
                prop_assert!(with == without || with == changed.id, "{log} went from {without} to {with}, though {} changed", changed.id);
            }
        }
    }

    /// All agents send the clients of a rack to the same place, which every client has among its replicas.
    #[test]
    fn what_leads_in_a_rack_is_a_replica_for_all(nodes in racked(), mine in prop::option::of(0u8..3), other in 0u8..3) {
        let (all, mine, other) = (build(&nodes), mine.map(|rack| rack.to_string()), other.to_string());
        prop_assume!(all.iter().any(|node| node.is_in(&other)));
        let (here, there) = (Leaders::for_client(&all, mine.as_deref()), Leaders::for_client(&all, Some(&other)));
        for log in logs(50) {
            let replicas = here.replicas(log);
            prop_assert_eq!(replicas.first(), Some(&here.of(log)));
            prop_assert!(replicas.contains(&there.of(log)), "{:?} without {}", replicas, there.of(log));
            let mut once = replicas.clone();
            once.sort_unstable();
            once.dedup();
            prop_assert_eq!(once.len(), replicas.len());
        }
    }
}

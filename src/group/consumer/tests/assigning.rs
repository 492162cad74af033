use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::scene::{Scene, beat, joining, logs};
use crate::group::consumer::{Assignor, Heartbeat, LEAVES};
use crate::types::TopicPartition;

fn reading(name: &str, topics: &[&str], assignor: Assignor) -> Heartbeat {
    Heartbeat { names: Some(topics.iter().map(|topic| (*topic).into()).collect()), assignor: Some(assignor), ..joining(name) }
}

#[test]
fn ranges_are_the_same_for_topics_of_one_size() {
    let mut scene = Scene::new(&[5, 5]);
    for name in ["a", "b"] {
        scene.beats(reading(name, &["t1", "t2"], Assignor::Range)).expect("joined");
    }
    let both = |partitions: std::ops::Range<i32>| logs(1, partitions.clone()).iter().chain(logs(2, partitions).iter()).collect();
    assert_eq!((scene.target("a"), scene.target("b")), (&both(0..3), &both(3..5)));
}

#[test]
fn the_assignor_most_ask_for_is_taken() {
    let mut scene = Scene::new(&[4]);
    scene.beats(reading("a", &["t1"], Assignor::Range)).expect("joined");
    assert_eq!(scene.group.assignor, Assignor::Range);
    scene.beats(joining("b")).expect("joined");
    assert_eq!(scene.group.assignor, Assignor::Range);
    scene.beats(reading("c", &["t1"], Assignor::Uniform)).expect("joined");
    assert_eq!(scene.group.assignor, Assignor::Uniform);
}

#[test]
fn uniform_shares_are_equal_and_move_little() {
    let mut scene = Scene::new(&[7, 5]);
    let join = |name| reading(name, &["t1", "t2"], Assignor::Uniform);
    let mut owners: BTreeMap<TopicPartition, String> = BTreeMap::new();
    for (count, name) in (1..).zip(["a", "b", "c", "d", "e"]) {
        scene.beats(join(name)).expect("joined");
        let mut now = BTreeMap::new();
        for (member, m) in &scene.group.members {
            assert!((12 / count..=12 / count + 1).contains(&m.target.len()), "{member} has {}", m.target.len());
            now.extend(m.target.iter().map(|log| (log, member.0.to_string())));
        }
        assert_eq!(now.len(), 12);
        let moved = owners.iter().filter(|(log, owner)| now[log] != **owner).count();
        assert!(moved <= 12_usize.div_ceil(count), "{moved} of 12 moved for member {count}");
        owners = now;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whoever comes, goes and reads what: every partition somebody reads has one owner who reads it, and no move could make loads more equal.
    #[test]
    fn shares_are_whole_and_level(
        partitions in prop::collection::vec(0i32..12, 1..5),
        script in prop::collection::vec((0u8..6, prop::collection::btree_set(1u8..5, 0..4), any::<bool>()), 1..20),
        range: bool,
    ) {
        let mut scene = Scene::new(&partitions);
        let assignor = if range { Assignor::Range } else { Assignor::Uniform };
        scene.rules.assignors = vec![assignor];
        for (member, topics, leaves) in script {
            let (name, topics): (_, Vec<String>) = (format!("m{member}"), topics.iter().map(|t| format!("t{t}")).collect());
            if leaves {
                let _ = scene.beats(beat(&name, LEAVES));
            } else {
                scene.beats(reading(&name, &topics.iter().map(String::as_str).collect::<Vec<_>>(), assignor)).expect("joined");
            }
            let reads = |m: &crate::group::consumer::Member, log: TopicPartition| {
                let name = scene.catalog.0.iter().find(|(_, (id, _))| *id == log.topic).map(|(name, _)| name.clone());
                name.is_some_and(|name| m.names.contains(&name))
            };
            let mut owned = BTreeSet::new();
            for m in scene.group.members.values() {
                for log in m.target.iter() {
                    prop_assert!(owned.insert(log) && reads(m, log));
                    if !range {
                        let least = scene.group.members.values().filter(|o| reads(o, log)).map(|o| o.target.len()).min();
                        prop_assert!(m.target.len() <= least.unwrap_or(0) + 1, "{:?}", scene.group);
                    }
                }
            }
            let read: BTreeSet<&str> = scene.group.members.values().flat_map(|m| &m.names).map(|name| &**name).collect();
            let expected: i32 = scene.catalog.0.iter().filter(|(name, _)| read.contains(&***name)).map(|(_, (_, count))| count).sum();
            prop_assert_eq!(owned.len(), expected as usize);
        }
    }
}

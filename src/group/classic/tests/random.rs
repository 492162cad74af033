//! Random scripts: whatever happens in whatever order, the state stays sound and the group never gets stuck.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::scene::{Scene, id};
use crate::group::classic::{ClassicGroup, Event, Join, Leaver, Phase, Protocol, Rules, Sync};
use crate::group::state::GroupState;
use crate::types::{MemberId, Timestamp};

const NAMES: usize = 5;

fn name() -> impl Strategy<Value = MemberId> {
    (0..NAMES).prop_map(|n| id(&format!("m{n}")))
}

fn instance() -> impl Strategy<Value = Option<std::sync::Arc<str>>> {
    prop_oneof![3 => Just(None), 1 => Just(Some("one".into())), 1 => Just(Some("two".into()))]
}

fn join() -> impl Strategy<Value = Event> {
    let protocols = prop_oneof![Just(vec!["range"]), Just(vec!["sticky", "range"]), Just(vec!["range", "sticky"]), Just(vec!["other"])];
    (name(), any::<bool>(), instance(), protocols, 1u64..60, any::<[bool; 2]>()).prop_map(
        |(name, known, instance, protocols, seconds, [id_first, may_skip_assignment])| {
            let protocols = protocols.into_iter().map(|p| Protocol { name: p.into(), metadata: Bytes::from_static(b"topics") });
            Event::Join(Join {
                member: known.then(|| name.clone()),
                new_id: name,
                instance,
                client_id: "c".into(),
                client_host: "h".into(),
                session_timeout: Duration::from_secs(10),
                rebalance_timeout: Duration::from_secs(seconds),
                protocol_type: "consumer".into(),
                protocols: protocols.collect(),
                id_first,
                may_skip_assignment,
            })
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let sync = (name(), instance(), 0..12i32, any::<bool>()).prop_map(|(member, instance, generation, assigns)| {
        let everybody = (0..NAMES).map(|n| (id(&format!("m{n}")), Bytes::from(format!("{member} {generation}"))));
        let assignments = everybody.filter(|_| assigns).collect();
        Event::Sync(Sync { member, instance, generation, protocol_type: None, protocol: None, assignments })
    });
    let leave = (proptest::option::of(name()), instance()).prop_map(|(member, instance)| Event::Leave(vec![Leaver { member, instance }]));
    let silent = name().prop_map(|name| Event::Sessions(vec![(name, Timestamp(0))]));
    prop_oneof![8 => join(), 8 => sync, 2 => leave, 1 => silent, 1 => Just(Event::Tick)]
}

/// A script speaks of generations as they are, mostly.
fn at(group: &ClassicGroup, event: Event) -> Event {
    match event {
        Event::Sync(sync) if sync.generation > 2 => Event::Sync(Sync { generation: group.generation, ..sync }),
        other => other,
    }
}

fn check(before: &ClassicGroup, after: &ClassicGroup, assigned: &mut BTreeMap<(i32, MemberId), Bytes>) {
    assert!((before.generation..=before.generation + 2).contains(&after.generation), "{} {}", before.generation, after.generation);
    match after.phase {
        Phase::Empty => assert!(after.members.is_empty() && after.leader.is_none()),
        Phase::Preparing { .. } => assert!(!after.members.is_empty() || !after.pending.is_empty()),
        Phase::Completing { .. } | Phase::Stable { .. } => {
            assert!(after.leader.as_ref().is_some_and(|l| after.members.contains_key(l)));
            let protocol = after.protocol.as_deref().expect("a protocol");
            assert!(after.members.values().all(|m| m.knows(protocol) && !m.joined));
        }
    }
    if let Phase::Stable { deadline } = after.phase {
        assert_eq!(deadline.is_none(), after.members.values().all(|m| m.synced));
        for (member, m) in &after.members {
            // A static member inherits; everybody else's assignment stays for as long as the generation.
            let known = assigned.entry((after.generation, member.clone())).or_insert_with(|| m.assignment.clone());
            assert_eq!(known, &m.assignment);
        }
    }
    let instances: Vec<_> = after.members.values().filter_map(|m| m.instance.as_deref()).collect();
    assert_eq!(instances.len(), instances.iter().collect::<std::collections::BTreeSet<_>>().len(), "an instance is one member's");
    assert!(after.pending.iter().all(|p| !after.members.contains_key(p)));
    let stored = GroupState::Classic(after.clone());
    assert_eq!(GroupState::decode(stored.encode()), Ok(stored));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_order_of_events_leaves_a_sound_group(
        script in prop::collection::vec((event(), 0u64..8_000), 1..120),
        delay in 0u64..4_000,
        max_members in 2usize..6,
    ) {
        let mut scene = Scene::delayed(Duration::from_millis(delay));
        scene.rules = Rules { max_members, ..scene.rules };
        let mut assigned = BTreeMap::new();
        for (event, millis) in script {
            let before = scene.group.clone();
            scene.now = scene.now.plus(Duration::from_millis(millis));
            scene.turn(at(&before, event));
            check(&before, &scene.group, &mut assigned);
        }
        // Left alone, it comes to rest: deadlines end, and what is silent is removed.
        for _ in 0..4 * NAMES {
            while let Some(deadline) = scene.group.deadline().filter(|_| scene.group.members.values().any(|m| m.instance.is_none() || m.joined)) {
                let before = scene.group.clone();
                scene.now = deadline;
                scene.turn(Event::Tick);
                prop_assert_ne!(&before, &scene.group, "a deadline without effect");
                check(&before, &scene.group, &mut assigned);
            }
            let everybody = scene.group.members.keys().chain(&scene.group.pending).map(|m| (m.clone(), scene.now)).collect();
            scene.turn(Event::Sessions(everybody));
        }
        prop_assert!(scene.group.is_empty() && scene.group.pending.is_empty());
    }

    #[test]
    fn nonsense_is_not_a_state(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..3) {
        let body: Vec<u8> = [1, kind].into_iter().chain(bytes).collect();
        if let Ok(state) = GroupState::decode(body.into()) {
            let stored = state.encode();
            prop_assert_eq!(GroupState::decode(stored), Ok(state));
        }
    }
}

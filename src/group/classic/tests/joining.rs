use std::time::Duration;

use bytes::Bytes;

use super::scene::{REBALANCE, SESSION, Scene, again, id, new, protocol};
use crate::group::GroupError;
use crate::group::classic::look::Look;
use crate::group::classic::{Join, Phase, Rules};
use crate::group::effect::Effect;

#[test]
fn the_first_member_leads_at_once_without_a_delay() {
    let mut scene = Scene::default();
    let joined = scene.join(&new("a")).expect("answered").expect("joined");
    assert_eq!((joined.generation, joined.leader, joined.protocol.as_deref()), (1, id("a"), Some("range")));
    assert_eq!(joined.members.len(), 1);
    assert_eq!(joined.members[0].metadata, Bytes::from("range's"));
    assert!(scene.effects.contains(&Effect::Renew(id("a"), SESSION)));
}

#[test]
fn a_new_member_is_first_given_its_id() {
    let mut scene = Scene::default();
    let first = Join { id_first: true, ..new("a") };
    assert_eq!(scene.join(&first), Some(Err(GroupError::MemberIdRequired(id("a")))));
    assert!(scene.group.is_empty() && scene.group.pending.contains(&id("a")));
    assert!(scene.effects.contains(&Effect::Renew(id("a"), SESSION)));
    let joined = scene.join(&Join { id_first: true, ..again("a") }).expect("answered").expect("joined");
    assert_eq!((joined.member, scene.group.pending.len()), (id("a"), 0));
}

#[test]
fn a_rebalance_waits_for_whoever_was_given_an_id() {
    let mut scene = Scene::stable(&["a"]);
    scene.join(&Join { id_first: true, ..new("b") });
    assert_eq!(scene.join(&again("a")), None);
    assert_eq!(scene.look("a"), Look::NotYet);
    assert!(scene.join(&Join { id_first: true, ..again("b") }).is_some());
    assert_eq!(scene.joined("a").members.len(), 2);

    // Or until that id's session ends.
    let mut scene = Scene::stable(&["a"]);
    scene.join(&Join { id_first: true, ..new("b") });
    assert_eq!(scene.join(&again("a")), None);
    scene.end(&["b"]);
    assert_eq!(scene.joined("a").members.len(), 1);
}

#[test]
fn an_id_nobody_was_given_is_unknown() {
    let mut scene = Scene::default();
    assert_eq!(scene.join(&again("a")), Some(Err(GroupError::UnknownMember)));
    assert!(scene.group.is_empty());
    let mut scene = Scene::stable(&["a"]);
    assert_eq!(scene.join(&again("b")), Some(Err(GroupError::UnknownMember)));
    assert_eq!(scene.group.phase, Phase::Stable { deadline: None });
}

#[test]
fn the_first_rebalance_waits_for_more_members() {
    let delay = Duration::from_secs(3);
    let mut scene = Scene::delayed(delay);
    assert_eq!(scene.join(&new("a")), None);
    scene.pass(Duration::from_secs(2));
    assert_eq!(scene.join(&new("b")), None);
    scene.pass(Duration::from_secs(1));
    // Somebody came: three seconds more.
    assert_eq!(scene.look("a"), Look::NotYet);
    scene.pass(Duration::from_millis(2_999));
    assert_eq!(scene.look("a"), Look::NotYet);
    scene.pass(Duration::from_millis(1));
    assert_eq!(scene.joined("a").members.len(), 2);
    assert_eq!(scene.joined("b").members.len(), 0);
}

#[test]
fn gathering_ends_with_the_rebalance_timeout() {
    let mut scene = Scene::delayed(Duration::from_secs(3));
    let hasty = |name: &str| Join { rebalance_timeout: Duration::from_secs(10), ..new(name) };
    let began = scene.now;
    scene.join(&hasty("a"));
    let mut names: Vec<String> = Vec::new();
    while scene.is_preparing() {
        names.push(format!("m{}", names.len()));
        scene.join(&hasty(names.last().expect("one")));
        scene.pass(Duration::from_millis(500));
    }
    assert_eq!(scene.now, began.plus(Duration::from_secs(10)));
    assert_eq!(scene.group.generation, 1);
}

#[test]
fn a_gathering_whose_members_are_gone_ends() {
    let mut scene = Scene::delayed(Duration::from_secs(3));
    scene.join(&new("a"));
    scene.leave(&["a"]);
    assert!(scene.group.is_empty());
    assert_eq!(scene.group.generation, 1);
}

#[test]
fn a_join_makes_everybody_join_again() {
    let mut scene = Scene::stable(&["a"]);
    assert_eq!(scene.join(&new("b")), None);
    assert_eq!(scene.group.check_heartbeat(&id("a"), None, 1), Err(GroupError::RebalanceInProgress));
    let joined = scene.join(&again("a")).expect("answered").expect("joined");
    assert_eq!((joined.generation, joined.members.len()), (2, 2));
    assert_eq!(scene.joined("b").leader, id("a"));
    assert_eq!(scene.group.check_heartbeat(&id("a"), None, 1), Err(GroupError::IllegalGeneration));
    assert_eq!(scene.group.check_heartbeat(&id("a"), None, 2), Ok(()));
}

#[test]
fn who_does_not_rejoin_in_time_is_out() {
    let mut scene = Scene::stable(&["a", "b"]);
    scene.join(&new("c"));
    assert_eq!(scene.join(&again("b")), None);
    scene.pass(REBALANCE);
    assert_eq!(scene.members(), ["b", "c"]);
    // The leader was late, so another one leads.
    assert_eq!(scene.joined("c").leader, id("b"));
    assert_eq!(scene.look("a"), Look::Ready(Err(GroupError::UnknownMember)));
    assert!(scene.effects.contains(&Effect::Forget(id("a"))));
}

#[test]
fn the_deadline_counts_even_if_nobody_looked() {
    let mut scene = Scene::stable(&["a", "b"]);
    scene.join(&new("c"));
    scene.now = scene.now.plus(REBALANCE);
    assert_eq!(scene.join(&again("a")), Some(Err(GroupError::UnknownMember)));
    assert_eq!(scene.members(), ["c"]);
}

#[test]
fn the_longest_rebalance_timeout_counts() {
    let mut scene = Scene::stable(&["a"]);
    scene.join(&Join { rebalance_timeout: REBALANCE * 2, ..new("b") });
    scene.pass(REBALANCE);
    assert!(scene.is_preparing());
    scene.pass(REBALANCE);
    assert_eq!(scene.members(), ["b"]);
}

#[test]
fn a_follower_that_joins_again_unchanged_is_told_the_present_generation() {
    let mut scene = Scene::stable(&["a", "b"]);
    let generation = scene.group.generation;
    let joined = scene.join(&again("b")).expect("answered").expect("joined");
    assert_eq!((joined.generation, joined.members.len()), (generation, 0));
    assert!(!scene.is_preparing());
    // Its subscription changed.
    assert_eq!(scene.join(&Join { protocols: vec![protocol("range"), protocol("other")], ..again("b") }), None);
    assert!(scene.is_preparing());
}

#[test]
fn a_leader_that_joins_again_wants_a_rebalance() {
    let mut scene = Scene::stable(&["a", "b"]);
    assert_eq!(scene.join(&again("a")), None);
    assert!(scene.is_preparing());
}

#[test]
fn a_lost_answer_is_given_again() {
    let mut scene = Scene::stable(&["a"]);
    scene.join(&new("b"));
    let joined = scene.join(&again("a")).expect("answered");
    assert_eq!(scene.join(&again("a")), Some(joined));
    assert!(matches!(scene.group.phase, Phase::Completing { .. }));
    assert_eq!(scene.join(&Join { protocols: vec![protocol("range"), protocol("x")], ..again("a") }), None);
    assert!(scene.is_preparing());
}

#[test]
fn a_join_applied_twice_is_one() {
    let mut scene = Scene::stable(&["a"]);
    assert_eq!(scene.join(&new("b")), None);
    assert_eq!(scene.join(&new("b")), None);
    assert_eq!(scene.members(), ["a", "b"]);
}

#[test]
fn members_vote_for_a_protocol_all_know() {
    let prefers = |name: &str, protocols: &[&str]| Join { protocols: protocols.iter().map(|p| protocol(p)).collect(), ..new(name) };
    let mut scene = Scene::delayed(Duration::from_secs(1));
    scene.join(&prefers("a", &["sticky", "range", "robin"]));
    scene.join(&prefers("b", &["robin", "range"]));
    scene.join(&prefers("c", &["only-mine", "range", "robin"]));
    scene.pass(Duration::from_secs(1));
    scene.pass(Duration::from_secs(1));
    assert_eq!(scene.joined("a").protocol.as_deref(), Some("range"));
    assert_eq!(scene.joined("a").members[1].metadata, Bytes::from("range's"));
}

#[test]
fn strangers_are_refused() {
    let mut scene = Scene::stable(&["a"]);
    let refused = Some(Err(GroupError::InconsistentProtocol));
    assert_eq!(scene.join(&Join { protocol_type: "connect".into(), ..new("b") }), refused);
    assert_eq!(scene.join(&Join { protocols: vec![protocol("other")], ..new("b") }), refused);
    assert_eq!(scene.join(&Join { protocols: vec![], ..new("b") }), refused);
    assert_eq!(scene.join(&Join { protocol_type: "".into(), ..new("b") }), refused);
    assert_eq!(Scene::default().join(&Join { protocols: vec![], ..new("b") }), refused);
    assert_eq!(scene.members(), ["a"]);
    scene.leave(&["a"]);
    // Nobody is there to disagree.
    assert!(scene.join(&Join { protocol_type: "connect".into(), ..new("b") }).expect("answered").is_ok());
}

#[test]
fn a_group_has_room_for_so_many() {
    let mut scene = Scene::stable(&["a", "b"]);
    scene.rules = Rules { max_members: 2, ..scene.rules };
    assert_eq!(scene.join(&new("c")), Some(Err(GroupError::GroupFull)));
    assert_eq!(scene.join(&again("a")), None);
    // Of those who come while it rebalances the first two are in.
    assert_eq!(scene.join(&Join { id_first: true, ..new("c") }), Some(Err(GroupError::MemberIdRequired(id("c")))));
    assert_eq!(scene.join(&again("c")), None);
    assert_eq!(scene.join(&again("b")), Some(Err(GroupError::GroupFull)));
    scene.pass(REBALANCE);
    assert_eq!(scene.members(), ["a", "c"]);
}

#[test]
fn subscriptions_have_a_measure() {
    let large = |name: &str, bytes: usize| Join {
        protocols: vec![crate::group::classic::Protocol { name: "range".into(), metadata: vec![0; bytes].into() }],
        ..new(name)
    };
    let mut scene = Scene::delayed(Duration::from_secs(1));
    assert_eq!(scene.join(&large("a", 1_000)), Some(Err(GroupError::TooLarge)));
    for i in 0..11 {
        scene.join(&large(&format!("m{i}"), 900));
    }
    assert_eq!(scene.join(&large("z", 900)), Some(Err(GroupError::TooLarge)));
    assert_eq!(scene.members().len(), 11);
    // Whoever is in can still rejoin.
    assert_eq!(scene.join(&Join { member: Some(id("m3")), ..large("m3", 900) }), None);
}

#[test]
fn a_generation_that_came_and_went_is_joined_again() {
    let mut scene = Scene::stable(&["a"]);
    scene.join(&new("b"));
    scene.join(&again("a"));
    // b has not looked yet, and the next rebalance begins.
    scene.join(&new("c"));
    assert_eq!(scene.look("b"), Look::Again);
}

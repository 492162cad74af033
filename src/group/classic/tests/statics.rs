use bytes::Bytes;

use super::scene::{REBALANCE, Scene, again, fixed, id, new, protocol};
use crate::group::GroupError;
use crate::group::classic::look::{self, Look};
use crate::group::classic::{Join, Phase};
use crate::group::effect::Effect;

/// Two static members, `a` leads.
fn stable() -> Scene {
    let mut scene = Scene::default();
    scene.join(&fixed("a", "one"));
    scene.join(&fixed("b", "two"));
    scene.join(&Join { member: Some(id("a")), ..fixed("a", "one") });
    scene.settle();
    assert_eq!(scene.group.generation, 2);
    scene
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let mut scene = stable();
    let joined = scene.join(&fixed("b2", "two")).expect("answered").expect("joined");
    assert_eq!((joined.member, joined.generation, joined.leader.clone()), (id("b2"), 2, id("a")));
    assert!(!joined.skip_assignment && joined.members.is_empty());
    assert_eq!(scene.group.phase, Phase::Stable { deadline: None });
    assert_eq!(scene.assigned("b2"), Ok(Bytes::from("b")), "it has what it had");
    assert!(scene.effects.contains(&Effect::Renew(id("b2"), super::scene::SESSION)));
    assert_eq!(scene.group.check_heartbeat(&id("b"), Some("two"), 2), Err(GroupError::FencedInstance));
    assert_eq!(scene.group.check_heartbeat(&id("b"), None, 2), Err(GroupError::UnknownMember));
    assert_eq!(scene.group.check_commit(Some(&id("b")), Some("two"), 2), Err(GroupError::FencedInstance));
    assert_eq!(scene.group.check_heartbeat(&id("b2"), Some("two"), 2), Ok(()));
}

#[test]
fn a_leader_that_comes_back_does_not_assign() {
    let mut scene = stable();
    let joined = scene.join(&fixed("a2", "one")).expect("answered").expect("joined");
    assert!(joined.skip_assignment);
    assert_eq!((joined.leader, joined.members.len()), (id("a2"), 2));
    // Before version 9 it takes itself for a follower.
    let mut scene = stable();
    let old = Join { may_skip_assignment: false, ..fixed("a2", "one") };
    let joined = scene.join(&old).expect("answered").expect("joined");
    assert_eq!((joined.leader, joined.members.len(), joined.skip_assignment), (id("a"), 0, false));
    assert_eq!(scene.group.leader, Some(id("a2")));
}

#[test]
fn whoever_had_the_instance_is_fenced_while_it_waits() {
    let mut scene = stable();
    scene.join(&new("c"));
    assert_eq!(scene.join(&Join { member: Some(id("b")), ..fixed("b", "two") }), None);
    assert_eq!(scene.join(&fixed("b2", "two")), None);
    assert_eq!(look::joined(&scene.group, &id("b"), Some("two")), Look::Ready(Err(GroupError::FencedInstance)));
    assert_eq!(look::joined(&scene.group, &id("b2"), Some("two")), Look::NotYet);
    assert_eq!(scene.join(&Join { member: Some(id("b")), ..fixed("b", "two") }), Some(Err(GroupError::FencedInstance)));
}

#[test]
fn a_static_member_that_changes_the_vote_starts_a_rebalance() {
    let mut scene = Scene::default();
    let both = |join: Join, first: &str, second: &str| Join { protocols: vec![protocol(first), protocol(second)], ..join };
    scene.join(&both(fixed("a", "one"), "x", "y"));
    scene.settle();
    assert!(scene.join(&both(fixed("a2", "one"), "y", "x")).expect("answered").is_ok(), "alone, it is joined at once");
    assert_eq!((scene.group.generation, scene.group.protocol.as_deref()), (2, Some("y")));
}

#[test]
fn a_static_member_that_comes_back_while_others_sync_starts_again() {
    let mut scene = stable();
    scene.join(&new("c"));
    scene.join(&Join { member: Some(id("a")), ..fixed("a", "one") });
    scene.join(&Join { member: Some(id("b")), ..fixed("b", "two") });
    assert!(matches!(scene.group.phase, Phase::Completing { .. }));
    assert_eq!(scene.join(&fixed("b2", "two")), None);
    assert!(scene.is_preparing());
}

#[test]
fn static_members_survive_a_rebalance_they_missed() {
    let mut scene = stable();
    scene.join(&new("c"));
    scene.pass(REBALANCE);
    assert_eq!(scene.members(), ["a", "b", "c"]);
    assert_eq!(scene.joined("c").leader, id("c"));
    // They are asked to sync like everybody, and are out if they do not.
    scene.sync(scene.syncing("c"));
    scene.pass(REBALANCE);
    assert_eq!(scene.members(), ["c"]);
}

#[test]
fn if_no_static_member_comes_back_their_sessions_decide() {
    let mut scene = stable();
    scene.leave(&["x"]);
    scene.join(&Join { member: Some(id("a")), ..fixed("a", "one") });
    scene.leave(&["a"]);
    scene.pass(REBALANCE * 3);
    assert!(scene.is_preparing());
    assert_eq!(scene.members(), ["b"]);
    scene.end(&["b"]);
    assert!(scene.group.is_empty());
}

#[test]
fn a_member_id_is_no_instance_and_an_unknown_instance_no_member() {
    let mut scene = stable();
    assert_eq!(scene.join(&Join { instance: Some("three".into()), ..again("a") }), Some(Err(GroupError::UnknownMember)));
    assert_eq!(scene.join(&Join { instance: Some("two".into()), ..again("a") }), Some(Err(GroupError::FencedInstance)));
    // Static members are not asked to come back with their id.
    assert_eq!(scene.join(&Join { id_first: true, ..fixed("c", "three") }), None);
}

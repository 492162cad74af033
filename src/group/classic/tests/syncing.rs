use bytes::Bytes;

use super::scene::{REBALANCE, Scene, again, id, new};
use crate::group::GroupError;
use crate::group::classic::look::{self, Look};
use crate::group::classic::{Assigned, Phase, Rules, Sync};

fn completing() -> Scene {
    let mut scene = Scene::stable(&["a"]);
    scene.join(&new("b"));
    scene.join(&again("a"));
    assert!(matches!(scene.group.phase, Phase::Completing { .. }));
    scene
}

fn looks(scene: &Scene, name: &str, generation: i32) -> Look<Assigned> {
    look::assigned(&scene.group, &id(name), None, generation)
}

#[test]
fn followers_wait_for_the_leader() {
    let mut scene = completing();
    assert_eq!(scene.sync(scene.syncing("b")), None);
    assert_eq!(looks(&scene, "b", 2), Look::NotYet);
    let assignments = vec![(id("a"), Bytes::from("0")), (id("b"), Bytes::from("1")), (id("stranger"), Bytes::from("2"))];
    let mine = scene.sync(Sync { assignments, ..scene.syncing("a") }).expect("answered").expect("assigned");
    assert_eq!((mine.assignment, mine.protocol.as_deref()), (Bytes::from("0"), Some("range")));
    let Look::Ready(Ok(assigned)) = looks(&scene, "b", 2) else { panic!("assigned") };
    assert_eq!(assigned.assignment, Bytes::from("1"));
    assert_eq!(scene.group.phase, Phase::Stable { deadline: None });
    assert!(scene.group.members.keys().all(|m| [id("a"), id("b")].contains(m)));
}

#[test]
fn who_was_forgotten_gets_nothing_and_a_second_assignment_changes_nothing() {
    let mut scene = completing();
    scene.sync(Sync { assignments: vec![(id("a"), Bytes::from("0"))], ..scene.syncing("a") });
    assert_eq!(scene.assigned("b"), Ok(Bytes::new()));
    let again = scene.sync(Sync { assignments: vec![(id("a"), Bytes::from("9"))], ..scene.syncing("a") });
    assert_eq!(again.expect("answered").expect("assigned").assignment, Bytes::from("0"));
    // Nor does what a follower thinks.
    let mut scene = completing();
    assert_eq!(scene.sync(Sync { assignments: vec![(id("b"), Bytes::from("all"))], ..scene.syncing("b") }), None);
    assert_eq!(looks(&scene, "b", 2), Look::NotYet);
}

#[test]
fn a_sync_of_another_time_is_refused() {
    let mut scene = completing();
    let told = |scene: &mut Scene, sync: Sync| scene.sync(sync).expect("answered").expect_err("refused");
    let good = scene.syncing("b");
    assert_eq!(told(&mut scene, Sync { generation: 1, ..good.clone() }), GroupError::IllegalGeneration);
    assert_eq!(told(&mut scene, Sync { member: id("x"), ..good.clone() }), GroupError::UnknownMember);
    assert_eq!(told(&mut scene, Sync { instance: Some("i".into()), ..good.clone() }), GroupError::UnknownMember);
    assert_eq!(told(&mut scene, Sync { protocol: Some("sticky".into()), ..good.clone() }), GroupError::InconsistentProtocol);
    assert_eq!(told(&mut scene, Sync { protocol_type: Some("connect".into()), ..good.clone() }), GroupError::InconsistentProtocol);
    // Old clients do not say.
    assert_eq!(scene.sync(Sync { protocol: None, protocol_type: None, ..good.clone() }), None);
    scene.join(&new("c"));
    assert_eq!(told(&mut scene, good), GroupError::RebalanceInProgress);
    assert_eq!(Scene::default().sync(scene.syncing("a")), Some(Err(GroupError::UnknownMember)));
}

#[test]
fn who_waits_for_an_assignment_learns_of_a_rebalance() {
    let mut scene = completing();
    scene.sync(scene.syncing("b"));
    scene.join(&new("c"));
    assert_eq!(looks(&scene, "b", 2), Look::Ready(Err(GroupError::RebalanceInProgress)));
    scene.leave(&["b"]);
    assert_eq!(looks(&scene, "b", 2), Look::Ready(Err(GroupError::UnknownMember)));
}

#[test]
fn a_leader_that_never_assigns_is_replaced() {
    let mut scene = completing();
    scene.sync(scene.syncing("b"));
    scene.pass(REBALANCE);
    assert_eq!(scene.members(), ["b"]);
    assert!(scene.is_preparing());
    let joined = scene.join(&again("b")).expect("answered").expect("joined");
    assert_eq!((joined.leader, joined.generation), (id("b"), 3));
    scene.settle();
}

#[test]
fn a_member_that_never_syncs_is_removed() {
    let mut scene = completing();
    scene.sync(Sync { assignments: vec![(id("a"), Bytes::from("0"))], ..scene.syncing("a") });
    assert!(matches!(scene.group.phase, Phase::Stable { deadline: Some(_) }));
    scene.pass(REBALANCE);
    assert_eq!(scene.members(), ["a"]);
    assert!(scene.is_preparing());
    // All have gone silent.
    let mut scene = completing();
    scene.pass(REBALANCE);
    assert!(scene.group.is_empty());
}

#[test]
fn an_assignment_too_large_is_refused_and_the_group_goes_on() {
    let mut scene = completing();
    scene.rules = Rules { max_group_bytes: 100, ..scene.rules };
    let large = Sync { assignments: vec![(id("a"), vec![0; 200].into())], ..scene.syncing("a") };
    assert_eq!(scene.sync(large), Some(Err(GroupError::TooLarge)));
    assert!(matches!(scene.group.phase, Phase::Completing { .. }));
    scene.settle();
}

#[test]
fn commits_need_the_present_generation() {
    let scene = Scene::stable(&["a", "b"]);
    let generation = scene.group.generation;
    let commit = |scene: &Scene, name: &str, generation| scene.group.check_commit(Some(&id(name)), None, generation);
    assert_eq!(commit(&scene, "a", generation), Ok(()));
    assert_eq!(commit(&scene, "a", generation - 1), Err(GroupError::IllegalGeneration));
    assert_eq!(commit(&scene, "x", generation), Err(GroupError::UnknownMember));
    assert_eq!(scene.group.check_commit(None, None, -1), Err(GroupError::UnknownMember));
    let mut scene = scene;
    scene.join(&new("c"));
    // What it still owns it may commit, until the next generation begins.
    assert_eq!(commit(&scene, "a", generation), Ok(()));
    scene.join(&again("a"));
    scene.join(&again("b"));
    assert_eq!(commit(&scene, "a", generation), Err(GroupError::IllegalGeneration));
    assert_eq!(commit(&scene, "a", generation + 1), Err(GroupError::RebalanceInProgress));
    scene.settle();
    assert_eq!(commit(&scene, "a", generation + 1), Ok(()));
    scene.leave(&["a", "b", "c"]);
    assert_eq!(scene.group.check_commit(None, None, -1), Ok(()));
    assert_eq!(commit(&scene, "a", generation + 1), Err(GroupError::UnknownMember));
}

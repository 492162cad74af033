use std::time::Duration;

use super::scene::{REBALANCE, Scene, beat, id, joining, logs, owning};
use crate::group::GroupError;
use crate::group::classic::Leaver;
use crate::group::consumer::{Assignor, Heartbeat, LEAVES, LEFT_FOR_NOW, Progress};
use crate::group::effect::Effect;
use crate::group::event::Event;

#[test]
fn the_first_member_has_everything_at_once() {
    let mut scene = Scene::new(&[6, 3]);
    assert_eq!(scene.joins(joining("a")), (1, logs(1, 0..6)));
    assert_eq!(scene.group.phase_name(), "Stable");
    assert!(scene.effects.contains(&Effect::Renew(id("a"), scene.rules.session_timeout)));
    // A heartbeat that says nothing is told nothing, and changes nothing.
    let before = scene.group.clone();
    let beaten = scene.beats(beat("a", 1)).expect("beaten");
    assert_eq!((beaten.epoch, beaten.assignment, &scene.group), (1, None, &before));
    // One that says everything is told everything.
    let full = Heartbeat { owned: Some(logs(1, 0..6)), ..joining("a") };
    assert_eq!(scene.beats(Heartbeat { epoch: 1, ..full }).expect("beaten").assignment, Some(logs(1, 0..6)));
}

#[test]
fn partitions_move_only_after_they_were_given_up() {
    let mut scene = Scene::new(&[6]);
    scene.joins(joining("a"));
    assert_eq!(scene.joins(joining("b")), (2, logs(1, [])));
    assert_eq!(scene.group.members[&id("b")].progress, Progress::Unreleased);
    let gives_up = scene.beats(beat("a", 1)).expect("beaten");
    assert_eq!((gives_up.epoch, gives_up.assignment), (1, Some(logs(1, 0..3))));
    assert_eq!(scene.beats(beat("b", 2)).expect("beaten").assignment, None, "a has not confirmed");
    assert_eq!(scene.beats(owning("a", 1, logs(1, 0..6))).expect("beaten").epoch, 1, "it still reads them");
    assert_eq!(scene.group.phase_name(), "Reconciling");
    assert_eq!(scene.beats(owning("a", 1, logs(1, 0..3))).expect("beaten").epoch, 2);
    assert_eq!(scene.beats(beat("b", 2)).expect("beaten").assignment, Some(logs(1, 3..6)));
    assert_eq!(scene.group.phase_name(), "Stable");
}

#[test]
fn who_does_not_give_up_in_time_is_out() {
    let mut scene = Scene::new(&[6]);
    scene.joins(joining("a"));
    scene.joins(joining("b"));
    scene.beats(beat("a", 1)).expect("beaten");
    assert_eq!(scene.group.deadline(), Some(scene.now.plus(REBALANCE)));
    scene.now = scene.now.plus(REBALANCE);
    scene.turn(&Event::Tick).expect("done");
    assert!(!scene.group.members.contains_key(&id("a")));
    assert_eq!(scene.beats(beat("b", 2)).expect("beaten").assignment, Some(logs(1, 0..6)));
    assert_eq!(scene.beats(beat("a", 1)), Err(GroupError::UnknownMember));
}

#[test]
fn an_answer_that_was_lost_is_given_again() {
    let mut scene = Scene::new(&[6]);
    scene.joins(joining("a"));
    scene.joins(joining("b"));
    scene.beats(beat("a", 1)).expect("beaten");
    assert_eq!(scene.beats(owning("a", 1, logs(1, 0..3))).expect("beaten").epoch, 2);
    // It did not hear of its new epoch.
    assert_eq!(scene.beats(owning("a", 1, logs(1, 0..3))).expect("beaten").epoch, 2);
    assert_eq!(scene.beats(owning("a", 1, logs(1, 0..4))), Err(GroupError::FencedEpoch), "more than it may have");
    assert_eq!(scene.beats(beat("a", 1)), Err(GroupError::FencedEpoch), "it does not say what it has");
    assert_eq!(scene.beats(beat("a", 7)), Err(GroupError::FencedEpoch));
}

#[test]
fn a_member_that_joins_again_keeps_what_nobody_else_is_to_have() {
    let mut scene = Scene::new(&[6]);
    scene.joins(joining("a"));
    scene.joins(joining("b"));
    assert_eq!(scene.joins(joining("a")), (2, logs(1, 0..3)));
    assert_eq!(scene.beats(beat("b", 2)).expect("beaten").assignment, Some(logs(1, 3..6)));
}

#[test]
fn the_others_share_what_a_leaver_had() {
    let mut scene = Scene::new(&[4]);
    scene.joins(joining("a"));
    assert_eq!(scene.beats(beat("a", LEAVES)).expect("left").epoch, LEAVES);
    assert!(scene.group.is_empty() && scene.group.since == scene.now);
    assert!(scene.effects.contains(&Effect::Forget(id("a"))));
    assert_eq!(scene.beats(beat("a", LEAVES)), Err(GroupError::UnknownMember));
    scene.joins(joining("a"));
    scene.joins(joining("b"));
    let leavers = vec![Leaver { member: Some(id("a")), instance: None }, Leaver { member: Some(id("x")), instance: None }];
    scene.turn(&Event::Leave(leavers)).expect("answered");
    let epoch = scene.epoch_of("b");
    assert_eq!(scene.beats(beat("b", epoch)).expect("beaten").assignment, Some(logs(1, 0..4)));
    scene.turn(&Event::Sessions(vec![(id("b"), scene.now)])).expect("done");
    assert!(scene.group.is_empty());
}

fn fixed(name: &str, instance: &str) -> Heartbeat {
    Heartbeat { instance: Some(instance.into()), ..joining(name) }
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let mut scene = Scene::new(&[4]);
    scene.joins(fixed("a", "one"));
    scene.joins(fixed("b", "two"));
    scene.beats(Heartbeat { instance: Some("one".into()), ..owning("a", 1, logs(1, 0..2)) }).expect("beaten");
    scene.beats(Heartbeat { instance: Some("two".into()), ..beat("b", 2) }).expect("beaten");
    assert_eq!(scene.beats(fixed("b2", "two")), Err(GroupError::UnreleasedInstance), "it has not left");
    let (epoch, had) = (scene.group.epoch, scene.assigned("b").clone());
    scene.beats(Heartbeat { epoch: LEFT_FOR_NOW, ..fixed("b", "two") }).expect("left");
    assert_eq!(scene.joins(fixed("b2", "two")), (epoch, had));
    assert_eq!(scene.group.epoch, epoch, "nobody else notices");
    let fenced = Heartbeat { epoch, ..fixed("b", "two") };
    assert_eq!(scene.beats(fenced), Err(GroupError::FencedInstance));
    assert_eq!(scene.beats(Heartbeat { instance: Some("three".into()), ..beat("a", 2) }), Err(GroupError::UnknownMember));
}

#[test]
fn topics_that_come_and_go_are_noticed() {
    let mut scene = Scene::new(&[2]);
    let names = Some(vec!["t1".into(), "t2".into()]);
    assert_eq!(scene.joins(Heartbeat { names, ..joining("a") }), (1, logs(1, 0..2)));
    scene.topic(2, 3);
    let all = logs(1, 0..2).iter().chain(logs(2, 0..3).iter()).collect();
    assert_eq!(scene.beats(beat("a", 1)).expect("beaten").assignment, Some(all));
    scene.catalog.0.remove("t1");
    let told = scene.beats(beat("a", 2)).expect("beaten");
    assert_eq!((told.epoch, told.assignment), (2, Some(logs(2, 0..3))));
    assert_eq!(scene.beats(owning("a", 2, logs(2, 0..3))).expect("beaten").epoch, 3);
    scene.topic(2, 5);
    assert_eq!(scene.beats(beat("a", 3)).expect("beaten").assignment, Some(logs(2, 0..5)));
}

#[test]
fn subscriptions_can_be_patterns_and_change() {
    let mut scene = Scene::new(&[1, 1, 1]);
    let pattern = |pattern: &str| Heartbeat { names: None, pattern: Some(pattern.into()), ..joining("a") };
    assert_eq!(scene.joins(pattern("t[12]")).1.len(), 2);
    // Whole names, and what an empty pattern says is nothing.
    assert_eq!(scene.joins(pattern("t")).1.len(), 0);
    let plain = Heartbeat { pattern: Some("".into()), ..joining("a") };
    assert_eq!(scene.joins(plain).1, logs(1, 0..1));
    assert!(matches!(scene.beats(pattern("t[")), Err(GroupError::InvalidPattern(_))));
    assert_eq!(scene.joins(pattern("(^t1)|(^t3)")).1.len(), 2);
    let epoch = scene.epoch_of("a");
    let changed = Heartbeat { pattern: Some("t.".into()), ..beat("a", epoch) };
    assert_eq!(scene.beats(changed).expect("beaten").assignment.expect("changed").len(), 3);
}

#[test]
fn strangers_and_crowds_are_refused() {
    let mut scene = Scene::new(&[2]);
    scene.rules.max_members = 1;
    assert_eq!(scene.beats(beat("a", 1)), Err(GroupError::UnknownMember));
    scene.joins(joining("a"));
    assert_eq!(scene.beats(joining("b")), Err(GroupError::GroupFull));
    assert_eq!(scene.joins(joining("a")).1.len(), 2);
    scene.rules.assignors = vec![Assignor::Uniform];
    assert_eq!(scene.beats(Heartbeat { assignor: Some(Assignor::Range), ..joining("a") }), Err(GroupError::UnsupportedAssignor));
    let large = Heartbeat { names: Some(vec!["x".repeat(20_000).into()]), ..joining("a") };
    assert_eq!(scene.beats(large), Err(GroupError::TooLarge));
    assert_eq!(scene.turn(&Event::Sessions(vec![(id("a"), scene.now.plus(Duration::from_millis(1)))])).map(drop), Ok(()));
    assert_eq!(scene.group.members.len(), 1);
}

#[test]
fn commits_and_looks_need_the_present_epoch() {
    let mut scene = Scene::new(&[2]);
    let (a, x) = (id("a"), id("x"));
    assert_eq!(scene.group.check_commit(None, -1), Ok(()));
    scene.joins(joining("a"));
    assert_eq!(scene.group.check_commit(Some(&a), 1), Ok(()));
    assert_eq!(scene.group.check_commit(Some(&a), 0), Err(GroupError::StaleEpoch));
    assert_eq!(scene.group.check_commit(Some(&x), 1), Err(GroupError::UnknownMember));
    assert_eq!(scene.group.check_commit(None, -1), Err(GroupError::UnknownMember));
    assert_eq!(scene.group.check_fetch(None, -1), Ok(()));
    assert_eq!(scene.group.check_fetch(Some(&a), 2), Err(GroupError::StaleEpoch));
    assert_eq!(scene.group.check_delete(), Err(GroupError::NotEmpty));
}

use super::scene::{REBALANCE, Scene, again, id, new};
use crate::group::GroupError;
use crate::group::classic::look::Look;
use crate::group::classic::{Join, Leaver};
use crate::group::effect::{Effect, Note};

#[test]
fn the_others_share_what_a_leaver_had() {
    let mut scene = Scene::stable(&["a", "b"]);
    assert_eq!(scene.leave(&["a", "x"]), [Ok(()), Err(GroupError::UnknownMember)]);
    assert!(scene.effects.contains(&Effect::Forget(id("a"))));
    assert!(scene.is_preparing());
    let joined = scene.join(&again("b")).expect("answered").expect("joined");
    assert_eq!((joined.leader, joined.members.len()), (id("b"), 1));
}

#[test]
fn the_last_to_leave_empties_the_group() {
    let mut scene = Scene::stable(&["a"]);
    assert_eq!(scene.leave(&["a"]), [Ok(())]);
    assert!(scene.group.is_empty());
    assert_eq!((scene.group.generation, scene.group.leader.clone(), scene.group.protocol.clone()), (2, None, None));
    assert_eq!(scene.group.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(scene.leave(&["a"]), [Err(GroupError::UnknownMember)]);
    assert_eq!(scene.group.generation, 2);
}

#[test]
fn a_leaver_does_not_hold_up_a_rebalance() {
    let mut scene = Scene::stable(&["a", "b"]);
    scene.join(&new("c"));
    scene.join(&again("a"));
    assert_eq!(scene.look("c"), Look::NotYet);
    scene.leave(&["b"]);
    assert_eq!(scene.joined("a").members.len(), 2);
}

#[test]
fn a_member_leaves_while_it_waits() {
    let mut scene = Scene::stable(&["a"]);
    scene.join(&new("b"));
    scene.leave(&["b"]);
    assert_eq!(scene.look("b"), Look::Ready(Err(GroupError::UnknownMember)));
    assert!(scene.is_preparing(), "a has still to rejoin");
    assert!(scene.join(&again("a")).is_some());
}

#[test]
fn one_that_was_only_given_an_id_can_leave() {
    let mut scene = Scene::stable(&["a"]);
    scene.join(&Join { id_first: true, ..new("b") });
    scene.join(&again("a"));
    assert_eq!(scene.leave(&["b"]), [Ok(())]);
    assert_eq!(scene.joined("a").members.len(), 1);
    // And does not disturb those who are stable.
    let mut scene = Scene::stable(&["a"]);
    scene.join(&Join { id_first: true, ..new("b") });
    scene.end(&["b"]);
    assert!(scene.group.pending.is_empty());
}

#[test]
fn an_administrator_removes_by_instance() {
    let mut scene = Scene::default();
    scene.join(&Join { instance: Some("one".into()), ..new("a") });
    let leaver = |member: Option<&str>, instance: &str| Leaver { member: member.map(id), instance: Some(instance.into()) };
    let leavers = vec![leaver(None, "two"), leaver(Some("b"), "one"), leaver(None, "one")];
    let expected = [Err(GroupError::UnknownMember), Err(GroupError::FencedInstance), Ok(())];
    assert_eq!(scene.leave_as(leavers), expected);
    assert!(scene.group.is_empty());
    assert_eq!(scene.leave_as(vec![Leaver { member: None, instance: None }]), [Err(GroupError::UnknownMember)]);
}

#[test]
fn silence_is_leaving() {
    let mut scene = Scene::stable(&["a", "b", "c"]);
    scene.turn(crate::group::classic::Event::Sessions(vec![
        (id("a"), scene.now),
        (id("b"), scene.now.plus(REBALANCE)),
        (id("stranger"), scene.now),
    ]));
    assert_eq!(scene.members(), ["b", "c"]);
    assert!(scene.is_preparing());
    assert!(scene.effects.contains(&Effect::Note(Note::Removed(id("a"), "session ended"))));
    scene.end(&["b", "c"]);
    assert!(scene.group.is_empty());
}

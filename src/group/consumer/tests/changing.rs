//! Groups whose members change their protocol one by one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::scene::{Scene, beat, id, joining, logs, owning};
use crate::group::classic::{self, Assigned, Join, Joined, Leaver, Protocol, Sync};
use crate::group::consumer::{Assignment, Beaten, Heartbeat, LEAVES};
use crate::group::effect::{Effect, Reply};
use crate::group::event::Event;
use crate::group::settings::Rules;
use crate::group::state::GroupState;
use crate::group::{GroupError, MigrationPolicy, subscription};
use crate::types::Timestamp;

const REBALANCE: Duration = Duration::from_mins(1);

/// Either kind of group, and a clock.
struct World {
    state: GroupState,
    rules: Rules,
    scene: Scene,
    now: Timestamp,
}

/// Version 1 of ConsumerProtocolSubscription: `t1`, and what is owned of it.
fn subscribed(owned: &[i32]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(b"\0\x01\0\0\0\x01\0\x02t1\xff\xff\xff\xff");
    out.put_slice(b"\0\0\0\x01\0\x02t1");
    out.put_i32(owned.len() as i32);
    for partition in owned {
        out.put_i32(*partition);
    }
    out.freeze()
}

fn classic_join(name: &str, known: bool, owned: &[i32]) -> Join {
    Join {
        member: known.then(|| id(name)),
        new_id: id(name),
        instance: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: REBALANCE,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol { name: "range".into(), metadata: subscribed(owned) }],
        id_first: false,
        may_skip_assignment: true,
    }
}

impl World {
    fn new() -> Self {
        let scene = Scene::new(&[6]);
        let classic = classic::Rules { initial_delay: Duration::ZERO, max_members: 10, max_member_bytes: 10_000, max_group_bytes: 100_000 };
        let rules = Rules { classic, consumer: scene.rules.clone(), migration: MigrationPolicy::Bidirectional };
        World { state: GroupState::default(), rules, now: scene.now, scene }
    }

    fn turn(&mut self, event: &Event) -> Option<Result<Reply, GroupError>> {
        let (state, effects) = std::mem::take(&mut self.state).apply(event, &self.rules, self.now);
        self.state = state;
        let stored = GroupState::decode(self.state.encode());
        assert_eq!(stored.as_ref(), Ok(&self.state));
        effects.into_iter().find_map(|effect| match effect {
            Effect::Answer(answer) => Some(Some(answer)),
            Effect::Wait(_) => Some(None),
            Effect::Renew(..) | Effect::Forget(_) | Effect::Announce | Effect::Note(_) => None,
        })?
    }

    fn joins(&mut self, join: Join) -> Option<Result<Joined, GroupError>> {
        Some(match self.turn(&Event::Join(join))? {
            Ok(Reply::Joined(joined)) => Ok(joined),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        })
    }

    fn syncs(&mut self, name: &str, generation: i32, shares: &[(&str, &[i32])]) -> Result<Assigned, GroupError> {
        let bytes = |partitions: &[i32]| {
            let assigned = [("t1".into(), partitions.iter().copied().collect())].into_iter().collect();
            subscription::encode_assignment(&assigned)
        };
        let assignments = shares.iter().map(|(member, partitions)| (id(member), bytes(partitions))).collect();
        let sync = Sync { member: id(name), instance: None, generation, protocol_type: None, protocol: None, assignments };
        match self.turn(&Event::Sync(sync)).expect("answered") {
            Ok(Reply::Assigned(assigned)) => Ok(assigned),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        }
    }

    fn beats(&mut self, heartbeat: Heartbeat) -> Result<Beaten, GroupError> {
        let catalog = Some(Arc::new(self.scene.catalog.clone()));
        match self.turn(&Event::Heartbeat(Heartbeat { catalog, ..heartbeat })).expect("answered") {
            Ok(Reply::Beaten(beaten)) => Ok(beaten),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        }
    }

    fn classic_beat(&self, name: &str, generation: i32) -> Result<(), GroupError> {
        self.state.check_heartbeat(&id(name), None, generation)
    }

    fn kind(&self) -> String {
        self.state.label().kind
    }
}

fn read(assigned: &Assigned) -> BTreeSet<i32> {
    let named = subscription::assignment(assigned.assignment.clone()).expect("readable");
    named.into_values().flatten().collect()
}

/// `a` and `b` in a classic group, each with half.
fn pair() -> World {
    let mut world = World::new();
    world.joins(classic_join("a", false, &[]));
    world.joins(classic_join("b", false, &[]));
    let joined = world.joins(classic_join("a", true, &[])).expect("answered").expect("joined");
    world.syncs("a", joined.generation, &[("a", &[0, 1, 2]), ("b", &[3, 4, 5])]).expect("assigned");
    world.syncs("b", joined.generation, &[]).expect("assigned");
    assert_eq!((joined.generation, world.kind()), (2, "Classic".to_owned()));
    world
}

/// Joins, and asks what it has; eager, so it owns nothing meanwhile.
fn rejoins(world: &mut World, name: &str) -> (i32, BTreeSet<i32>) {
    let joined = world.joins(classic_join(name, true, &[])).expect("at once").expect("joined");
    assert!(joined.members.is_empty() && joined.leader != joined.member);
    let assigned = world.syncs(name, joined.generation, &[]).expect("assigned");
    (joined.generation, read(&assigned))
}

#[test]
fn members_change_over_one_by_one_and_back() {
    let mut world = pair();
    let c = world.beats(joining("c")).expect("joined");
    assert_eq!((c.epoch, c.assignment, world.kind()), (3, Some(Assignment::default()), "Consumer".to_owned()));
    for name in ["a", "b"] {
        assert_eq!(world.classic_beat(name, 2), Err(GroupError::RebalanceInProgress));
        assert_eq!(world.syncs(name, 2, &[]), Err(GroupError::RebalanceInProgress));
        let (generation, share) = rejoins(&mut world, name);
        assert_eq!((generation, share.len(), world.classic_beat(name, 3)), (3, 2, Ok(())));
    }
    assert_eq!(world.beats(beat("c", 3)).expect("beaten").assignment.expect("changed").len(), 2);
    assert_eq!(world.state.label().phase, "Stable");
    // a changes over: it leaves, and comes back with the other protocol.
    world.turn(&Event::Leave(vec![Leaver { member: Some(id("a")), instance: None }]));
    assert_eq!((world.kind(), world.beats(joining("a2")).expect("joined").epoch), ("Consumer".to_owned(), 5));
    assert_eq!(world.classic_beat("b", 3), Err(GroupError::RebalanceInProgress));
    // And all is undone: when the last one of the new protocol goes, those of the old one are among themselves again.
    world.beats(beat("c", LEAVES)).expect("left");
    world.beats(beat("a2", LEAVES)).expect("left");
    assert_eq!((world.kind(), world.state.label().phase), ("Classic".to_owned(), "PreparingRebalance".to_owned()));
    let joined = world.joins(classic_join("b", true, &[])).expect("at once").expect("joined");
    assert_eq!((joined.leader, joined.protocol.as_deref()), (id("b"), Some("range")));
    let all = world.syncs("b", joined.generation, &[("b", &[0, 1, 2, 3, 4, 5])]).expect("assigned");
    assert_eq!(read(&all).len(), 6);
}

#[test]
fn a_cooperative_member_gives_up_only_what_it_must() {
    let mut world = pair();
    world.beats(joining("c")).expect("joined");
    let join = |owned: &[i32]| classic_join("a", true, owned);
    let joined = world.joins(join(&[0, 1, 2])).expect("at once").expect("joined");
    assert_eq!(joined.generation, 2, "it has something to give up first");
    let kept = read(&world.syncs("a", 2, &[]).expect("assigned"));
    assert_eq!(kept.len(), 2);
    assert_eq!(world.classic_beat("a", 2), Err(GroupError::RebalanceInProgress));
    let kept: Vec<i32> = kept.into_iter().collect();
    assert_eq!(world.joins(join(&kept)).expect("at once").expect("joined").generation, 3);
    assert_eq!(read(&world.syncs("a", 3, &[]).expect("assigned")), kept.into_iter().collect());
    assert_eq!(world.beats(beat("c", 3)).expect("beaten").assignment.expect("changed").len(), 1);
}

#[test]
fn who_was_waiting_and_who_never_comes() {
    let mut world = pair();
    world.beats(joining("c")).expect("joined");
    assert_eq!(world.state.deadline(), Some(world.now.plus(REBALANCE)));
    rejoins(&mut world, "a");
    world.now = world.now.plus(REBALANCE);
    world.turn(&Event::Tick);
    assert_eq!(world.classic_beat("b", 2), Err(GroupError::UnknownMember));
    assert_eq!(world.classic_beat("a", 3), Err(GroupError::RebalanceInProgress), "it shares what b had");
    let owned = logs(1, []);
    assert!(world.beats(owning("c", 3, owned)).expect("beaten").assignment.is_some());
}

#[test]
fn members_of_the_classic_protocol_may_come_later() {
    let mut world = World::new();
    assert_eq!(world.beats(joining("c")).expect("joined").epoch, 1);
    let first = world.joins(Join { id_first: true, ..classic_join("a", false, &[]) }).expect("answered");
    assert_eq!(first, Err(GroupError::MemberIdRequired(id("a"))));
    let joined = world.joins(Join { id_first: true, ..classic_join("a", true, &[]) }).expect("answered").expect("joined");
    assert_eq!(read(&world.syncs("a", joined.generation, &[]).expect("assigned")).len(), 0);
    let told = world.beats(beat("c", 1)).expect("beaten").assignment.expect("to give up");
    assert_eq!(world.classic_beat("a", joined.generation), Ok(()), "nothing is free yet");
    world.beats(owning("c", 1, told)).expect("beaten");
    assert_eq!(world.classic_beat("a", joined.generation), Err(GroupError::RebalanceInProgress));
    assert_eq!(rejoins(&mut world, "a").1.len(), 3);
    let stranger = Join { protocol_type: "connect".into(), ..classic_join("x", false, &[]) };
    assert_eq!(world.joins(stranger), Some(Err(GroupError::InconsistentProtocol)));
    let other = vec![Protocol { name: "other".into(), metadata: subscribed(&[]) }];
    assert_eq!(world.joins(Join { protocols: other, ..classic_join("x", false, &[]) }), Some(Err(GroupError::InconsistentProtocol)));
    assert_eq!(world.state.check_commit(Some(&id("a")), None, 1), Err(GroupError::IllegalGeneration));
    assert_eq!(world.state.check_commit(Some(&id("c")), None, 1), Err(GroupError::StaleEpoch));
}

#[test]
fn not_every_group_may_change() {
    let mut world = pair();
    world.rules.migration = MigrationPolicy::Downgrade;
    assert_eq!(world.beats(joining("c")), Err(GroupError::NotFound));
    assert_eq!(world.beats(beat("c", 3)), Err(GroupError::NotFound));
    assert_eq!((world.kind(), world.classic_beat("a", 2)), ("Classic".to_owned(), Ok(())));
    world.rules.migration = MigrationPolicy::Upgrade;
    let refused = Heartbeat { pattern: Some("[".into()), ..joining("c") };
    assert!(matches!(world.beats(refused), Err(GroupError::InvalidPattern(_))));
    assert_eq!(world.kind(), "Classic");
    world.beats(joining("c")).expect("joined");
    world.beats(beat("c", LEAVES)).expect("left");
    assert_eq!(world.kind(), "Consumer", "it may not go back");
    // Without members it is whatever the next one wants.
    let leavers = ["a", "b"].map(|name| Leaver { member: Some(id(name)), instance: None }).to_vec();
    world.turn(&Event::Leave(leavers));
    assert!(world.joins(classic_join("d", false, &[])).expect("answered").is_ok());
    assert_eq!(world.kind(), "Classic");
}

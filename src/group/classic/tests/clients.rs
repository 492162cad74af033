//! Clients that behave as real ones do, at random: they join, sync, own, beat, commit, leave, crash and come back, while time passes.
//!
//! Whatever they do: one owner for each partition and generation, nobody waits for longer than the timeouts allow, no commit of an old
//! generation, and left in peace the group settles with everything owned.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::scene::{Scene, new, protocol};
use crate::group::GroupError;
use crate::group::classic::look::{self, Look};
use crate::group::classic::{Assigned, Event, InstanceId, Join, Joined, Leaver, Phase, Sync};
use crate::group::effect::{Effect, Reply};
use crate::types::{MemberId, Timestamp};

const CLIENTS: usize = 5;
const PARTITIONS: u8 = 10;
const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(20);
/// The gathering of an empty group, one rebalance whose members do not come, one whose leader does not assign.
const LONGEST_WAIT: Duration = Duration::from_secs(3 * 20 + 3);

#[derive(Debug, Clone, PartialEq)]
enum Doing {
    Nothing,
    Joining(Timestamp),
    Joined(Joined),
    Syncing { generation: i32, since: Timestamp },
    Owning { generation: i32, partitions: BTreeSet<u8> },
}

#[derive(Debug)]
struct Client {
    number: usize,
    instance: Option<InstanceId>,
    member: Option<MemberId>,
    doing: Doing,
}

/// A commit that is still on its way: of a client that crashed, or that has joined again since.
type Ghost = (MemberId, Option<InstanceId>, i32, BTreeSet<u8>);

struct World {
    scene: Scene,
    clients: Vec<Client>,
    ghosts: Vec<Ghost>,
    sessions: BTreeMap<MemberId, (Timestamp, Duration)>,
    ids: usize,
}

impl World {
    fn new(delay: Duration, statics: usize) -> Self {
        let client = |number| Client {
            number,
            instance: (number < statics).then(|| format!("i{number}").into()),
            member: None,
            doing: Doing::Nothing,
        };
        let clients = (0..CLIENTS).map(client).collect();
        World { scene: Scene::delayed(delay), clients, ghosts: vec![], sessions: BTreeMap::new(), ids: 0 }
    }

    fn turn(&mut self, event: Event) -> Option<Result<Reply, GroupError>> {
        let told = self.scene.turn(event);
        for effect in &self.scene.effects {
            match effect {
                Effect::Renew(member, timeout) => {
                    self.sessions.insert(member.clone(), (self.scene.now.plus(*timeout), *timeout));
                }
                Effect::Forget(member) => {
                    self.sessions.remove(member);
                }
                Effect::Answer(_) | Effect::Wait(_) | Effect::Announce | Effect::Note(_) => {}
            }
        }
        told
    }

    fn beat(&mut self, member: &MemberId) {
        if let Some((ends, timeout)) = self.sessions.get_mut(member) {
            *ends = self.scene.now.plus(*timeout);
        }
    }

    fn pass(&mut self, millis: u64) {
        self.scene.now = self.scene.now.plus(Duration::from_millis(millis));
        let waiting = self.clients.iter().filter(|c| matches!(c.doing, Doing::Joining(_) | Doing::Syncing { .. }));
        for member in waiting.filter_map(|c| c.member.clone()).collect::<Vec<_>>() {
            self.beat(&member);
        }
        self.turn(Event::Tick);
        let ends = self.sessions.iter().map(|(member, (ends, _))| (member.clone(), *ends)).collect();
        self.turn(Event::Sessions(ends));
    }

    fn step(&mut self, at: usize) {
        let doing = std::mem::replace(&mut self.clients[at].doing, Doing::Nothing);
        self.clients[at].doing = match doing {
            Doing::Nothing => self.join(at),
            Doing::Joining(since) => self.look_joined(at, since),
            Doing::Joined(joined) => self.sync(at, &joined),
            Doing::Syncing { generation, since } => self.look_assigned(at, generation, since),
            Doing::Owning { generation, partitions } => self.heartbeat(at, generation, partitions),
        };
    }

    fn join(&mut self, at: usize) -> Doing {
        self.ids += 1;
        let client = &self.clients[at];
        let name = format!("c{}-{}", client.number, self.ids);
        let join = Join {
            member: client.member.clone(),
            instance: client.instance.clone(),
            id_first: client.number.is_multiple_of(2),
            protocols: vec![protocol("range")],
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE,
            ..new(&name)
        };
        let new_id = join.new_id.clone();
        match self.turn(Event::Join(join)) {
            None => {
                self.clients[at].member.get_or_insert(new_id);
                Doing::Joining(self.scene.now)
            }
            Some(Ok(Reply::Joined(joined))) => {
                self.clients[at].member = Some(joined.member.clone());
                Doing::Joined(joined)
            }
            Some(Ok(other)) => panic!("{other:?}"),
            Some(Err(GroupError::MemberIdRequired(id))) => {
                self.clients[at].member = Some(id);
                Doing::Nothing
            }
            Some(Err(error)) => self.refused(at, &error),
        }
    }

    fn refused(&mut self, at: usize, error: &GroupError) -> Doing {
        match error {
            GroupError::UnknownMember | GroupError::FencedInstance | GroupError::GroupFull => self.clients[at].member = None,
            GroupError::RebalanceInProgress | GroupError::IllegalGeneration => {}
            other => panic!("an honest client is told {other}"),
        }
        Doing::Nothing
    }

    fn look_joined(&mut self, at: usize, since: Timestamp) -> Doing {
        let (member, instance) = self.identity(at);
        match look::joined(&self.scene.group, &member, instance.as_deref()) {
            Look::NotYet => {
                assert!(self.scene.now <= since.plus(LONGEST_WAIT), "a join waits for ever: {:?}", self.scene.group);
                Doing::Joining(since)
            }
            Look::Again => self.join(at),
            Look::Ready(Ok(joined)) => Doing::Joined(joined),
            Look::Ready(Err(error)) => self.refused(at, &error),
        }
    }

    fn identity(&self, at: usize) -> (MemberId, Option<InstanceId>) {
        let client = &self.clients[at];
        (client.member.clone().expect("a member"), client.instance.clone())
    }

    /// The leader gives everybody its share; partitions are numbered.
    fn sync(&mut self, at: usize, joined: &Joined) -> Doing {
        let (member, instance) = self.identity(at);
        let leads = joined.leader == member && !joined.skip_assignment;
        let share = |of: usize| (0..PARTITIONS).filter(|p| usize::from(*p) % joined.members.len() == of).collect::<Vec<u8>>();
        let shares = joined.members.iter().enumerate().map(|(i, m)| (m.member.clone(), Bytes::from(share(i))));
        let assignments = shares.filter(|_| leads).collect();
        let (protocol_type, protocol) = (joined.protocol_type.clone(), joined.protocol.clone());
        let generation = joined.generation;
        match self.turn(Event::Sync(Sync { member, instance, generation, protocol_type, protocol, assignments })) {
            None => Doing::Syncing { generation, since: self.scene.now },
            Some(Ok(Reply::Assigned(assigned))) => owning(generation, &assigned),
            Some(Ok(other)) => panic!("{other:?}"),
            Some(Err(error)) => self.refused(at, &error),
        }
    }

    fn look_assigned(&mut self, at: usize, generation: i32, since: Timestamp) -> Doing {
        let (member, instance) = self.identity(at);
        match look::assigned(&self.scene.group, &member, instance.as_deref(), generation) {
            Look::NotYet | Look::Again => {
                assert!(self.scene.now <= since.plus(REBALANCE), "a sync waits for ever: {:?}", self.scene.group);
                Doing::Syncing { generation, since }
            }
            Look::Ready(Ok(assigned)) => owning(generation, &assigned),
            Look::Ready(Err(error)) => self.refused(at, &error),
        }
    }

    fn heartbeat(&mut self, at: usize, generation: i32, partitions: BTreeSet<u8>) -> Doing {
        let (member, instance) = self.identity(at);
        match self.scene.group.check_heartbeat(&member, instance.as_deref(), generation) {
            Ok(()) => {
                self.beat(&member);
                Doing::Owning { generation, partitions }
            }
            Err(error) => {
                if error == GroupError::RebalanceInProgress {
                    self.beat(&member);
                }
                self.ghosts.push((member, instance, generation, partitions));
                self.refused(at, &error)
            }
        }
    }

    fn crash(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let doing = std::mem::replace(&mut client.doing, Doing::Nothing);
        if let (Some(member), Doing::Owning { generation, partitions }) = (client.member.take(), doing) {
            self.ghosts.push((member, client.instance.clone(), generation, partitions));
        }
    }

    fn leave(&mut self, at: usize) {
        let client = &mut self.clients[at];
        client.doing = Doing::Nothing;
        if let Some(member) = client.member.take() {
            let leaver = Leaver { member: Some(member), instance: client.instance.clone() };
            self.turn(Event::Leave(vec![leaver]));
        }
    }

    fn owners(&self) -> Vec<Ghost> {
        let alive = self.clients.iter().filter_map(|client| match &client.doing {
            Doing::Owning { generation, partitions } => {
                Some((client.member.clone()?, client.instance.clone(), *generation, partitions.clone()))
            }
            Doing::Nothing | Doing::Joining(_) | Doing::Joined(_) | Doing::Syncing { .. } => None,
        });
        alive.chain(self.ghosts.iter().cloned()).collect()
    }

    fn check(&self) {
        let mut owned = BTreeMap::new();
        for (member, instance, generation, partitions) in self.owners() {
            let accepted = self.scene.group.check_commit(Some(&member), instance.as_deref(), generation);
            if accepted.is_err() {
                continue;
            }
            assert_eq!(generation, self.scene.group.generation, "a commit of an old generation is accepted");
            for partition in partitions {
                let other = owned.insert(partition, member.clone());
                assert!(other.is_none_or(|o| o == member), "two members may commit partition {partition}");
            }
        }
    }

    fn is_settled(&self) -> bool {
        let owned: BTreeSet<u8> = self
            .clients
            .iter()
            .flat_map(|c| if let Doing::Owning { partitions, .. } = &c.doing { partitions.clone() } else { BTreeSet::new() })
            .collect();
        let stable = matches!(self.scene.group.phase, Phase::Stable { deadline: None });
        stable && owned.len() == usize::from(PARTITIONS) && self.scene.group.members.len() == CLIENTS
    }
}

fn owning(generation: i32, assigned: &Assigned) -> Doing {
    Doing::Owning { generation, partitions: assigned.assignment.iter().copied().collect() }
}

#[derive(Debug, Clone)]
enum Act {
    Step(usize),
    Crash(usize),
    Leave(usize),
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        20 => (0..CLIENTS).prop_map(Act::Step),
        1 => (0..CLIENTS).prop_map(Act::Crash),
        1 => (0..CLIENTS).prop_map(Act::Leave),
        4 => (1u64..4_000).prop_map(Act::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn clients_share_partitions_whatever_happens(script in prop::collection::vec(act(), 1..250), delay in 0u64..3_000, statics in 0usize..4) {
        let mut world = World::new(Duration::from_millis(delay), statics);
        for act in script {
            match act {
                Act::Step(at) => world.step(at),
                Act::Crash(at) => world.crash(at),
                Act::Leave(at) => world.leave(at),
                Act::Pass(millis) => world.pass(millis),
            }
            // Whoever waits looks as soon as something happens.
            for at in 0..CLIENTS {
                if matches!(world.clients[at].doing, Doing::Joining(_) | Doing::Syncing { .. }) {
                    world.step(at);
                }
            }
            world.check();
        }
        // Left in peace, within the time of the longest rebalance and of a session, it settles.
        for _ in 0..90 {
            (0..CLIENTS).for_each(|at| world.step(at));
            world.pass(1_000);
            world.check();
        }
        prop_assert!(world.is_settled(), "{:?}\n{:?}", world.scene.group, world.clients);
    }
}

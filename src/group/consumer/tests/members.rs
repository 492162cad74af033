//! Members that behave as real ones do, at random: they join, beat, give up what they are told to after a while, leave, crash and come back.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::scene::{Scene, beat, id, joining, topic_id};
use crate::group::GroupError;
use crate::group::consumer::{Assignment, Heartbeat, LEAVES, LEFT_FOR_NOW};
use crate::group::event::Event;
use crate::group::state::GroupState;
use crate::types::{Timestamp, TopicPartition};

const CLIENTS: usize = 5;

#[derive(Debug, Default, Clone)]
struct Client {
    life: usize,
    /// 0: to join.
    epoch: i32,
    /// What it reads.
    owned: Assignment,
    /// What it was last told to read.
    told: Assignment,
    /// The broker knows what it owns.
    said: bool,
    /// An answer did not come: it says everything, to be told everything.
    missed: bool,
}

struct World {
    scene: Scene,
    clients: Vec<Client>,
}

#[derive(Debug, Clone)]
enum Act {
    /// The answer may be lost.
    Beat(usize, bool),
    /// It stops reading what it was told to give up.
    Obey(usize),
    Leave(usize),
    LeaveForNow(usize),
    Crash(usize),
    Partitions(u8, i32),
    Pass(u64),
}

impl World {
    fn name(&self, at: usize) -> String {
        format!("c{at}-{}", self.clients[at].life)
    }

    fn heartbeat(&self, at: usize) -> Heartbeat {
        let client = &self.clients[at];
        let instance = (at < 2).then(|| format!("i{at}").into());
        let names = Some(vec!["t1".into(), "t2".into()]);
        match client.epoch {
            0 => Heartbeat { instance, names, ..joining(&self.name(at)) },
            epoch if client.missed => Heartbeat { instance, names, epoch, owned: Some(client.owned.clone()), ..joining(&self.name(at)) },
            epoch => Heartbeat { instance, owned: (!client.said).then(|| client.owned.clone()), ..beat(&self.name(at), epoch) },
        }
    }

    fn beat(&mut self, at: usize, lost: bool) {
        let heartbeat = self.heartbeat(at);
        let answer = self.scene.beats(heartbeat);
        let client = &mut self.clients[at];
        if lost {
            client.missed = true;
            return;
        }
        match answer {
            Ok(beaten) => {
                if client.epoch == 0 {
                    client.owned = Assignment::default();
                }
                client.epoch = beaten.epoch;
                (client.said, client.missed) = (true, false);
                if let Some(assignment) = beaten.assignment {
                    // What is new is read at once.
                    let kept = client.owned.filter(|_| true);
                    client.owned = kept.iter().chain(assignment.iter()).collect();
                    client.told = assignment;
                }
            }
            Err(GroupError::UnknownMember | GroupError::FencedEpoch | GroupError::FencedInstance) => {
                *client = Client { life: client.life, ..Client::default() };
            }
            Err(GroupError::UnreleasedInstance) => {}
            Err(error) => panic!("an honest member is told {error}"),
        }
    }

    fn obey(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let obeyed = client.owned.filter(|log| client.told.contains(log));
        client.said &= obeyed == client.owned;
        client.owned = obeyed;
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Beat(at, lost) => self.beat(*at, *lost),
            Act::Obey(at) => self.obey(*at),
            Act::Leave(at) => self.leave(*at, LEAVES),
            Act::LeaveForNow(at) => self.leave(*at, if *at < 2 { LEFT_FOR_NOW } else { LEAVES }),
            Act::Crash(at) => {
                let life = self.clients[*at].life + 1;
                self.end_session(*at);
                self.clients[*at] = Client { life, ..Client::default() };
            }
            Act::Partitions(topic, count) => {
                let name = format!("t{topic}");
                self.scene.catalog.0.insert(name.as_str().into(), (topic_id(*topic), *count));
            }
            Act::Pass(seconds) => {
                self.scene.now = self.scene.now.plus(std::time::Duration::from_secs(*seconds));
                self.scene.turn(&Event::Tick).expect("done");
            }
        }
    }

    fn end_session(&mut self, at: usize) {
        let name = self.name(at);
        self.scene.turn(&Event::Sessions(vec![(id(&name), Timestamp(0))])).expect("done");
    }

    fn leave(&mut self, at: usize, epoch: i32) {
        let heartbeat = Heartbeat { epoch, ..self.heartbeat(at) };
        let _ = self.scene.beats(Heartbeat { owned: None, ..heartbeat });
        let life = self.clients[at].life + 1;
        self.clients[at] = Client { life, ..Client::default() };
    }

    /// No partition is read by two members that are told that all is well.
    fn check(&self) {
        let mut owners: BTreeMap<TopicPartition, usize> = BTreeMap::new();
        for (at, client) in self.clients.iter().enumerate() {
            let member = self.scene.group.members.get(&id(&self.name(at)));
            // One whose membership ended reads on until it hears of it, but may commit nothing.
            let Some(member) = member.filter(|m| client.epoch != 0 && m.epoch == client.epoch) else { continue };
            for log in client.owned.iter() {
                assert_eq!(owners.insert(log, at), None, "two members read {log}: {:?}", self.scene.group);
            }
            assert!(client.owned.iter().all(|log| member.assigned.contains(log) || member.revoking.contains(log)), "{member:?}");
        }
        let stored = GroupState::Consumer(self.scene.group.clone());
        assert_eq!(GroupState::decode(stored.encode()), Ok(stored));
    }
}

fn act() -> impl Strategy<Value = Act> {
    let client = || 0..CLIENTS;
    prop_oneof![
        20 => (client(), prop::bool::weighted(0.1)).prop_map(|(at, lost)| Act::Beat(at, lost)),
        10 => client().prop_map(Act::Obey),
        1 => client().prop_map(Act::Leave),
        1 => client().prop_map(Act::LeaveForNow),
        1 => client().prop_map(Act::Crash),
        1 => (1u8..3, 0..9i32).prop_map(|(topic, count)| Act::Partitions(topic, count)),
        1 => (1u64..40).prop_map(Act::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn members_never_read_the_same_and_settle_when_left_in_peace(script in prop::collection::vec(act(), 1..250)) {
        let mut world = World { scene: Scene::new(&[5, 3]), clients: vec![Client::default(); CLIENTS] };
        for act in &script {
            world.act(act);
            world.check();
        }
        // Static members that left come back within their sessions.
        for _ in 0..6 {
            for at in 0..CLIENTS {
                world.beat(at, false);
                world.obey(at);
                world.check();
            }
        }
        prop_assert_eq!(world.scene.group.phase_name(), "Stable", "{:?}", world.scene.group);
        let read: usize = world.clients.iter().map(|client| client.owned.len()).sum();
        let there: i32 = world.scene.catalog.0.values().map(|(_, count)| count).sum();
        prop_assert_eq!((world.scene.group.members.len(), read), (CLIENTS, there as usize));
    }

    #[test]
    fn nonsense_is_not_a_state(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let body: Vec<u8> = [1, 1].into_iter().chain(bytes).collect();
        if let Ok(state) = GroupState::decode(body.into()) {
            prop_assert_eq!(GroupState::decode(state.encode()), Ok(state));
        }
    }
}

//! A group and a clock that are moved by hand.

use std::time::Duration;

use bytes::Bytes;

use crate::group::GroupError;
use crate::group::classic::{Assigned, ClassicGroup, Event, Join, Joined, Leaver, Phase, Protocol, Rules, Sync, apply, look, look::Look};
use crate::group::effect::{Effect, Reply};
use crate::types::{MemberId, Timestamp};

pub(super) const SESSION: Duration = Duration::from_secs(10);
pub(super) const REBALANCE: Duration = Duration::from_mins(1);

pub(super) fn id(name: &str) -> MemberId {
    MemberId(name.into())
}

pub(super) fn protocol(name: &str) -> Protocol {
    Protocol { name: name.into(), metadata: Bytes::from(format!("{name}'s")) }
}

/// A dynamic member that needs no handshake.
pub(super) fn new(name: &str) -> Join {
    Join {
        member: None,
        new_id: id(name),
        instance: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout: SESSION,
        rebalance_timeout: REBALANCE,
        protocol_type: "consumer".into(),
        protocols: vec![protocol("range")],
        id_first: false,
        may_skip_assignment: true,
    }
}

pub(super) fn again(name: &str) -> Join {
    Join { member: Some(id(name)), new_id: id("unused"), ..new(name) }
}

pub(super) fn fixed(name: &str, instance: &str) -> Join {
    Join { instance: Some(instance.into()), ..new(name) }
}

pub(super) struct Scene {
    pub(super) group: ClassicGroup,
    pub(super) rules: Rules,
    pub(super) now: Timestamp,
    /// Of the last turn.
    pub(super) effects: Vec<Effect>,
}

/// What a turn tells the request that caused it.
pub(super) type Told = Option<Result<Reply, GroupError>>;

impl Default for Scene {
    fn default() -> Self {
        let rules = Rules { initial_delay: Duration::ZERO, max_members: 100, max_member_bytes: 1_000, max_group_bytes: 10_000 };
        Scene { group: ClassicGroup::default(), rules, now: Timestamp(1_000_000), effects: Vec::new() }
    }
}

impl Scene {
    pub(super) fn delayed(delay: Duration) -> Self {
        let scene = Scene::default();
        Scene { rules: Rules { initial_delay: delay, ..scene.rules }, ..scene }
    }

    /// Stable, with these members; the first leads.
    pub(super) fn stable(names: &[&str]) -> Self {
        let mut scene = Scene::default();
        for name in names {
            scene.join(&new(name));
        }
        for name in names {
            scene.join(&again(name));
        }
        scene.settle();
        scene
    }

    /// Everybody is assigned its own name.
    pub(super) fn settle(&mut self) {
        let leader = self.group.leader.clone().expect("a leader");
        let members: Vec<MemberId> = self.group.members.keys().cloned().collect();
        let assignments = members.iter().map(|m| (m.clone(), Bytes::from(m.0.to_string()))).collect();
        assert!(matches!(self.turn(Event::Sync(Sync { assignments, ..self.syncing(&leader.0) })), Some(Ok(Reply::Assigned(_)))));
        for member in members {
            assert_eq!(self.assigned(&member.0), Ok(member.0.to_string().into()));
        }
        assert_eq!(self.group.phase, Phase::Stable { deadline: None });
    }

    pub(super) fn turn(&mut self, event: Event) -> Told {
        let group = std::mem::take(&mut self.group);
        let (group, effects) = apply(group, &event, &self.rules, self.now);
        (self.group, self.effects) = (group, effects);
        let mut told = self.effects.iter().filter_map(|effect| match effect {
            Effect::Answer(answer) => Some(Some(answer.clone())),
            Effect::Wait(_) => Some(None),
            Effect::Renew(..) | Effect::Forget(_) | Effect::Announce | Effect::Note(_) => None,
        });
        let first = told.next().expect("an answer, or to wait");
        assert_eq!(told.next(), None, "one answer a turn");
        first
    }

    pub(super) fn join(&mut self, join: &Join) -> Option<Result<Joined, GroupError>> {
        self.turn(Event::Join(join.clone())).map(|told| match told {
            Ok(Reply::Joined(joined)) => Ok(joined),
            Ok(other) => panic!("a join is not answered {other:?}"),
            Err(error) => Err(error),
        })
    }

    pub(super) fn syncing(&self, name: &str) -> Sync {
        let (protocol_type, protocol) = (self.group.protocol_type.clone(), self.group.protocol.clone());
        Sync { member: id(name), instance: None, generation: self.group.generation, protocol_type, protocol, assignments: vec![] }
    }

    pub(super) fn sync(&mut self, sync: Sync) -> Option<Result<Assigned, GroupError>> {
        self.turn(Event::Sync(sync)).map(|told| match told {
            Ok(Reply::Assigned(assigned)) => Ok(assigned),
            Ok(other) => panic!("a sync is not answered {other:?}"),
            Err(error) => Err(error),
        })
    }

    /// A sync in a stable group.
    pub(super) fn assigned(&mut self, name: &str) -> Result<Bytes, GroupError> {
        self.sync(self.syncing(name)).expect("answered at once").map(|a| a.assignment)
    }

    pub(super) fn leave(&mut self, names: &[&str]) -> Vec<Result<(), GroupError>> {
        let leavers = names.iter().map(|name| Leaver { member: Some(id(name)), instance: None }).collect();
        self.leave_as(leavers)
    }

    pub(super) fn leave_as(&mut self, leavers: Vec<Leaver>) -> Vec<Result<(), GroupError>> {
        match self.turn(Event::Leave(leavers)) {
            Some(Ok(Reply::Left(left))) => left,
            other => panic!("a leave is not answered {other:?}"),
        }
    }

    pub(super) fn pass(&mut self, duration: Duration) {
        self.now = self.now.plus(duration);
        self.turn(Event::Tick);
    }

    /// The sessions of these members end.
    pub(super) fn end(&mut self, names: &[&str]) {
        self.turn(Event::Sessions(names.iter().map(|name| (id(name), self.now)).collect()));
    }

    pub(super) fn look(&self, name: &str) -> Look<Joined> {
        look::joined(&self.group, &id(name), None)
    }

    /// What a waiting join finds.
    pub(super) fn joined(&self, name: &str) -> Joined {
        match self.look(name) {
            Look::Ready(Ok(joined)) => joined,
            other => panic!("{name} has not joined: {other:?}"),
        }
    }

    pub(super) fn members(&self) -> Vec<&str> {
        self.group.members.keys().map(|m| &*m.0).collect()
    }

    pub(super) fn is_preparing(&self) -> bool {
        matches!(self.group.phase, Phase::Preparing { .. })
    }
}

//! A group, its topics and a clock that are moved by hand.

use std::sync::Arc;
use std::time::Duration;

use crate::group::GroupError;
use crate::group::consumer::{Assignment, Assignor, Beaten, Catalog, ConsumerGroup, Heartbeat, Rules, apply};
use crate::group::effect::{Effect, Reply};
use crate::group::event::Event;
use crate::types::{MemberId, Timestamp, TopicId, TopicPartition};

pub(super) const REBALANCE: Duration = Duration::from_mins(1);

pub(super) fn id(name: &str) -> MemberId {
    MemberId(name.into())
}

pub(super) fn topic_id(number: u8) -> TopicId {
    TopicId([number; 16])
}

pub(super) fn logs(number: u8, partitions: impl IntoIterator<Item = i32>) -> Assignment {
    partitions.into_iter().map(|partition| TopicPartition::new(topic_id(number), partition)).collect()
}

/// A member that joins and reads the topic `t1`.
pub(super) fn joining(name: &str) -> Heartbeat {
    Heartbeat {
        member: id(name),
        epoch: 0,
        instance: None,
        rack: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout: Some(REBALANCE),
        session_timeout: None,
        names: Some(vec!["t1".into()]),
        pattern: None,
        assignor: None,
        owned: Some(Assignment::default()),
        catalog: None,
    }
}

/// A heartbeat in which nothing has changed.
pub(super) fn beat(name: &str, epoch: i32) -> Heartbeat {
    Heartbeat { epoch, rebalance_timeout: None, names: None, owned: None, ..joining(name) }
}

pub(super) fn owning(name: &str, epoch: i32, owned: Assignment) -> Heartbeat {
    Heartbeat { owned: Some(owned), ..beat(name, epoch) }
}

pub(super) struct Scene {
    pub(super) group: ConsumerGroup,
    pub(super) rules: Rules,
    pub(super) now: Timestamp,
    pub(super) catalog: Catalog,
    pub(super) effects: Vec<Effect>,
}

impl Scene {
    /// Topics `t1`, `t2`, … with so many partitions.
    pub(super) fn new(partitions: &[i32]) -> Self {
        let rules = Rules {
            session_timeout: Duration::from_secs(45),
            max_members: 100,
            assignors: vec![Assignor::Uniform, Assignor::Range],
            max_member_bytes: 10_000,
        };
        let mut scene =
            Scene { group: ConsumerGroup::default(), rules, now: Timestamp(1_000_000), catalog: Catalog::default(), effects: vec![] };
        (1..).zip(partitions).for_each(|(number, partitions)| scene.topic(number, *partitions));
        scene
    }

    pub(super) fn topic(&mut self, number: u8, partitions: i32) {
        self.catalog.0.insert(format!("t{number}").into(), (topic_id(number), partitions));
    }

    pub(super) fn turn(&mut self, event: &Event) -> Result<Reply, GroupError> {
        let group = std::mem::take(&mut self.group);
        (self.group, self.effects) = apply(group, event, &self.rules, self.now);
        let mut answers = self.effects.iter().filter_map(|effect| if let Effect::Answer(answer) = effect { Some(answer) } else { None });
        let answer = answers.next().expect("an answer").clone();
        assert_eq!(answers.next(), None, "one answer a turn");
        answer
    }

    pub(super) fn beats(&mut self, heartbeat: Heartbeat) -> Result<Beaten, GroupError> {
        let catalog = Some(Arc::new(self.catalog.clone()));
        self.turn(&Event::Heartbeat(Heartbeat { catalog, ..heartbeat })).map(|reply| match reply {
            Reply::Beaten(beaten) => beaten,
            other => panic!("a heartbeat is not answered {other:?}"),
        })
    }

    /// Who joins, and what it is given at once.
    pub(super) fn joins(&mut self, heartbeat: Heartbeat) -> (i32, Assignment) {
        let beaten = self.beats(heartbeat).expect("joined");
        (beaten.epoch, beaten.assignment.expect("whoever joins is told"))
    }

    pub(super) fn assigned(&self, name: &str) -> &Assignment {
        &self.group.members[&id(name)].assigned
    }

    pub(super) fn target(&self, name: &str) -> &Assignment {
        &self.group.members[&id(name)].target
    }

    pub(super) fn epoch_of(&self, name: &str) -> i32 {
        self.group.members[&id(name)].epoch
    }
}

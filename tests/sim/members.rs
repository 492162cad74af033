//! Clients that are members of groups: they join, beat, commit, leave, crash and come back, on whichever agent they find.
//!
//! Two groups, one of each protocol. What members are told and what they commit goes into the book of their group (`group_book`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use yaks::group::classic::{Join, Joined, Leaver, Protocol, Sync};
use yaks::group::consumer::{Assignment, Beaten, Heartbeat, LEAVES};
use yaks::group::{Committer, GroupError};
use yaks::metastore::{CommittedOffset, TopicQuery, Topics as _};
use yaks::types::{GroupId, MemberId, Offset, TopicName, TopicPartition};

use crate::agent::Agent;
use crate::sights::Sight;
use crate::world::{Dice, World};

/// The topics that members read; they stay.
const TOPICS: [&str; 2] = ["orders", "lines"];
pub(crate) const SESSION: Duration = Duration::from_secs(3);
pub(crate) const REBALANCE: Duration = Duration::from_secs(4);

/// Which protocol a group speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Classic,
    Consumer,
}

impl Kind {
    pub(crate) const ALL: [Kind; 2] = [Kind::Classic, Kind::Consumer];

    pub(crate) fn group(self) -> GroupId {
        GroupId(
            match self {
                Kind::Classic => "classics",
                Kind::Consumer => "consumers",
            }
            .into(),
        )
    }
}

/// One member, through all its lives.
#[derive(Debug)]
pub(crate) struct Member {
    world: Arc<World>,
    dice: Dice,
    kind: Kind,
    name: String,
    life: u64,
    agent: Option<Arc<Agent>>,
    /// What it is called, if it was told.
    id: Option<MemberId>,
}

/// A call to an agent, and its end.
enum Called<T> {
    Answered(T),
    Refused(GroupError),
    /// Nobody knows what became of it.
    Lost,
}

impl Member {
    pub(crate) fn new(world: &Arc<World>, kind: Kind, number: u64) -> Member {
        let dice = world.dice_of(5_000 + 100 * (kind as u64) + number, world.clock);
        Member { world: Arc::clone(world), dice, kind, name: format!("{kind:?} member {number}"), life: 0, agent: None, id: None }
    }

    pub(crate) async fn run(mut self) {
        let over = self.world.over.clone();
        while !over.is_cancelled() {
            tokio::select! {
                biased;
                () = over.cancelled() => return,
                () = self.live() => {}
            }
            // It was told to join again, or crashed, or left; what it sent before may still be on its way.
            let owned = self.world.groups().owns(self.kind, &self.name, None);
            self.send_late(owned);
            let pause = self.dice.millis(10, 500);
            tokio::time::sleep(pause).await;
        }
    }

    /// Commits of its last life that arrive now, in several places.
    fn send_late(&mut self, owned: Option<(MemberId, i32, BTreeSet<TopicPartition>)>) {
        let Some((id, generation, owned)) = owned else { return };
        for number in 0..self.dice.below(4) {
            let late = self.dice.millis(0, 2_500);
            let dice = self.world.dice_of(9_000 + self.dice.below(1 << 40), self.world.clock);
            let name = format!("{} (late {number})", self.name);
            let mut late_self = Member { name, dice, agent: None, world: Arc::clone(&self.world), kind: self.kind, life: 0, id: None };
            let (id, owned) = (id.clone(), owned.clone());
            self.world.tasks.spawn("late commit", async move {
                tokio::time::sleep(late).await;
                if let Some(agent) = late_self.connected() {
                    late_self.commit(&agent, &id, generation, &owned).await;
                }
            });
        }
    }

    async fn live(&mut self) {
        let Some(agent) = self.connected() else { return };
        match self.kind {
            Kind::Classic => self.live_classic(&agent).await,
            Kind::Consumer => self.live_consumer(&agent).await,
        }
    }

    fn connected(&mut self) -> Option<Arc<Agent>> {
        let stays = self.agent.as_ref().is_some_and(|agent| agent.accepts()) && !self.dice.chance(50);
        if !stays {
            let agents = self.world.live_agents();
            self.agent = (!agents.is_empty()).then(|| Arc::clone(self.dice.pick(&agents)));
        }
        self.agent.clone()
    }

    /// While all is in trouble, some members give up now and then.
    fn gives_up(&self) -> bool {
        !self.world.is_ending() && self.dice.chance(15)
    }

    fn forget(&mut self) {
        self.id = None;
        self.life += 1;
    }

    async fn call<T>(&self, agent: &Agent, call: impl Future<Output = Result<T, GroupError>>) -> Called<T> {
        match agent.call(call).await {
            Some(Ok(answer)) => Called::Answered(answer),
            Some(Err(error)) => Called::Refused(error),
            None => Called::Lost,
        }
    }

    /// What a refusal means for the member.
    fn refused(&mut self, error: &GroupError) {
        self.world.trace.note(&self.name, format_args!("is told: {error}"));
        match error {
            GroupError::UnknownMember | GroupError::FencedInstance | GroupError::FencedEpoch => self.forget(),
            GroupError::RebalanceInProgress | GroupError::IllegalGeneration | GroupError::StaleEpoch => {}
            GroupError::Stopping | GroupError::Unavailable(_) | GroupError::Metastore(_) => self.agent = None,
            other => self.world.broken(format!("{} is told: {other}", self.name)),
        }
    }

    async fn logs(&self, agent: &Agent) -> Vec<TopicPartition> {
        let names = TOPICS.map(|name| TopicName::parse(name).expect("legal")).to_vec();
        let Some(Ok(found)) = agent.call(agent.link.find_topics(&TopicQuery::Names(names))).await else { return Vec::new() };
        found.iter().flat_map(|topic| (0..topic.partitions).map(|p| TopicPartition::new(topic.id, p))).collect()
    }

    async fn live_classic(&mut self, agent: &Arc<Agent>) {
        let join = self.join(agent);
        let joined = match self.call(agent, agent.rooms.groups.join(&self.kind.group(), join)).await {
            Called::Answered(joined) => joined,
            Called::Refused(GroupError::MemberIdRequired(id)) => return self.id = Some(id),
            Called::Refused(error) => return self.refused(&error),
            Called::Lost => return self.agent = None,
        };
        self.id = Some(joined.member.clone());
        self.world.trace.note(&self.name, format_args!("is in generation {} as {}", joined.generation, joined.member));
        self.world.sights.saw(Sight::GroupRebalanced, u64::from(joined.generation > 1));
        self.world.groups().saw_generation(joined.generation);
        let Some(owned) = self.sync(agent, &joined).await else { return };
        self.world.groups().grants(self.kind, &self.name, joined.generation, &owned);
        self.own_classic(&joined, &owned).await;
    }

    fn join(&self, agent: &Agent) -> Join {
        Join {
            member: self.id.clone(),
            new_id: agent.rooms.groups.member_id(&self.name),
            instance: None,
            client_id: self.name.as_str().into(),
            client_host: "/sim".into(),
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol { name: "range".into(), metadata: bytes::Bytes::from_static(b"\0\0\0\0\0\0") }],
            id_first: true,
            may_skip_assignment: true,
        }
    }

    /// Its share, as the leader decided: numbers of logs.
    async fn sync(&mut self, agent: &Agent, joined: &Joined) -> Option<BTreeSet<TopicPartition>> {
        let logs = self.logs(agent).await;
        let members = joined.members.len().max(1);
        let share = |of: usize| (0..logs.len() as u8).filter(|at| usize::from(*at) % members == of).collect::<Vec<u8>>();
        let assignments = joined.members.iter().enumerate().map(|(at, m)| (m.member.clone(), share(at).into())).collect();
        let sync = Sync {
            member: joined.member.clone(),
            instance: None,
            generation: joined.generation,
            protocol_type: joined.protocol_type.clone(),
            protocol: joined.protocol.clone(),
            assignments: if logs.is_empty() { return None } else { assignments },
        };
        match self.call(agent, agent.rooms.groups.sync(&self.kind.group(), sync)).await {
            Called::Answered(assigned) => Some(assigned.assignment.iter().filter_map(|at| logs.get(usize::from(*at)).copied()).collect()),
            Called::Refused(error) => {
                self.refused(&error);
                None
            }
            Called::Lost => {
                self.agent = None;
                None
            }
        }
    }

    async fn own_classic(&mut self, joined: &Joined, owned: &BTreeSet<TopicPartition>) {
        self.world.groups().owns(self.kind, &self.name, Some((joined.member.clone(), joined.generation, owned.clone())));
        loop {
            tokio::time::sleep(self.dice.millis(200, 800)).await;
            let Some(agent) = self.connected() else { continue };
            if self.gives_up() {
                return self.go(&agent, &joined.member).await;
            }
            if !self.commit(&agent, &joined.member, joined.generation, owned).await {
                return;
            }
            let group = self.kind.group();
            match self.call(&agent, agent.rooms.groups.heartbeat(&group, &joined.member, None, joined.generation)).await {
                Called::Answered(()) => {}
                Called::Refused(error @ (GroupError::Stopping | GroupError::Unavailable(_) | GroupError::Metastore(_))) => {
                    self.refused(&error);
                }
                Called::Refused(error) => return self.refused(&error),
                Called::Lost => self.agent = None,
            }
        }
    }

    /// Leaves, or only falls silent.
    async fn go(&mut self, agent: &Agent, member: &MemberId) {
        if self.dice.chance(500) {
            let leaver = Leaver { member: Some(member.clone()), instance: None };
            let _ = self.call(agent, agent.rooms.groups.leave(&self.kind.group(), vec![leaver])).await;
        }
        self.world.trace.note(&self.name, "goes");
        self.forget();
        let away = self.dice.millis(10, 6_000);
        tokio::time::sleep(away).await;
    }

    /// Commits for one log of its own; false if the member is to join again.
    async fn commit(&mut self, agent: &Agent, member: &MemberId, generation: i32, owned: &BTreeSet<TopicPartition>) -> bool {
        let owned: Vec<TopicPartition> = owned.iter().copied().collect();
        if owned.is_empty() || self.dice.chance(500) {
            return true;
        }
        let log = *self.dice.pick(&owned);
        let began = Instant::now();
        let value = self.world.groups().begins_commit(self.kind, &self.name, generation, log, began);
        let committer = Committer { member: Some(member.clone()), instance: None, generation };
        let offsets = [(log, CommittedOffset { offset: Offset(value), leader_epoch: -1, metadata: None })];
        let called = self.call(agent, agent.rooms.groups.commit(&self.kind.group(), &committer, &offsets)).await;
        let (accepted, goes_on) = match &called {
            Called::Answered(()) => (Some(true), true),
            // A refusal by the group is one for good; what a metastore says may have happened all the same.
            Called::Refused(GroupError::Metastore(_) | GroupError::Stopping | GroupError::Unavailable(_)) | Called::Lost => (None, true),
            Called::Refused(_) => (Some(false), false),
        };
        let slip = self.world.groups().ends_commit(self.kind, value, accepted, Instant::now());
        if let Some(slip) = slip {
            self.world.broken(format!("{}: {slip}", self.name));
        }
        if let Called::Refused(error) = &called {
            self.world.sights.saw(Sight::CommitRefused, u64::from(!goes_on));
            self.refused(error);
        } else if matches!(called, Called::Lost) {
            self.agent = None;
        }
        goes_on
    }

    async fn live_consumer(&mut self, agent: &Arc<Agent>) {
        let id = self.id.get_or_insert_with(|| MemberId(format!("{} {}", self.name, self.life).into())).clone();
        let mut beat = Beat { epoch: 0, owned: Assignment::default(), said: false };
        match self.beat(agent, &id, &beat).await {
            Called::Answered(beaten) => self.take(&id, &beaten, &mut beat),
            Called::Refused(error) => return self.refused(&error),
            Called::Lost => return self.agent = None,
        }
        loop {
            tokio::time::sleep(self.dice.millis(200, 800)).await;
            let Some(agent) = self.connected() else { continue };
            if self.gives_up() {
                if self.dice.chance(500) {
                    let _ = self.beat(&agent, &id, &Beat { epoch: LEAVES, ..beat.clone() }).await;
                }
                self.world.trace.note(&self.name, "goes");
                self.forget();
                let away = self.dice.millis(10, 6_000);
                return tokio::time::sleep(away).await;
            }
            let owned = beat.owned.iter().collect();
            // One that commits in an old epoch waits for its next heartbeat.
            let _ = self.commit(&agent, &id, beat.epoch, &owned).await;
            if self.id.is_none() {
                return;
            }
            match self.beat(&agent, &id, &beat).await {
                Called::Answered(beaten) => self.take(&id, &beaten, &mut beat),
                Called::Refused(error @ (GroupError::Stopping | GroupError::Unavailable(_) | GroupError::Metastore(_))) => {
                    // The answer may have been lost: everything is said again.
                    beat.said = false;
                    self.refused(&error);
                }
                Called::Refused(error) => return self.refused(&error),
                Called::Lost => {
                    beat.said = false;
                    self.agent = None;
                }
            }
        }
    }

    async fn beat(&self, agent: &Agent, id: &MemberId, beat: &Beat) -> Called<Beaten> {
        let full = beat.epoch >= 0 && !beat.said;
        let heartbeat = Heartbeat {
            member: id.clone(),
            epoch: beat.epoch,
            instance: None,
            rack: None,
            client_id: self.name.as_str().into(),
            client_host: "/sim".into(),
            rebalance_timeout: full.then_some(REBALANCE),
            session_timeout: Some(SESSION),
            names: full.then(|| TOPICS.map(Into::into).to_vec()),
            pattern: None,
            assignor: None,
            owned: full.then(|| beat.owned.clone()),
            catalog: None,
        };
        self.call(agent, agent.rooms.groups.consumer_heartbeat(&self.kind.group(), heartbeat)).await
    }

    /// What it is told to give up it gives up at once, and says so the next time.
    fn take(&self, id: &MemberId, beaten: &Beaten, beat: &mut Beat) {
        if beat.epoch != beaten.epoch {
            self.world.trace.note(&self.name, format_args!("is in epoch {}", beaten.epoch));
        }
        beat.epoch = beaten.epoch;
        beat.said = beaten.assignment.is_none();
        if let Some(assignment) = &beaten.assignment {
            beat.owned = assignment.clone();
        }
        let owned: BTreeSet<TopicPartition> = beat.owned.iter().collect();
        self.world.groups().grants(self.kind, &self.name, beaten.epoch, &owned);
        self.world.groups().owns(self.kind, &self.name, Some((id.clone(), beaten.epoch, owned)));
    }
}

/// What a member of the consumer protocol says.
#[derive(Debug, Clone)]
struct Beat {
    epoch: i32,
    owned: Assignment,
    /// The broker knows all of it.
    said: bool,
}

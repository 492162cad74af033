//! Clients that are members of groups: they join, beat, read, commit, leave, crash and come back, on whichever agent they find.
//!
//! Two groups, one of each protocol. What members are told, read and commit goes into the book of their group (`group_book`).

mod classic;
mod consumer;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use yaks::group::GroupError;
use yaks::types::{GroupId, MemberId, Offset, TopicPartition};

use crate::agent::Agent;
use crate::world::{Dice, World};

/// The topics that members read; they stay.
pub(crate) const TOPICS: [&str; 2] = ["orders", "lines"];
const SESSION: Duration = Duration::from_secs(3);
const REBALANCE: Duration = Duration::from_secs(4);

/// Which protocol a group speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Classic,
    Consumer,
}

impl Kind {
    pub(crate) const ALL: [Kind; 2] = [Kind::Classic, Kind::Consumer];

    pub(crate) fn group(self) -> GroupId {
        let name = match self {
            Kind::Classic => "classics",
            Kind::Consumer => "consumers",
        };
        GroupId(name.into())
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
    /// Where it goes on reading, of the logs it owns.
    positions: BTreeMap<TopicPartition, Offset>,
}

/// What a member was given.
#[derive(Debug, Clone)]
struct Share {
    id: MemberId,
    generation: i32,
    owned: BTreeSet<TopicPartition>,
}

/// A call to an agent, and its end.
enum Called<T> {
    Answered(T),
    /// The group says no.
    Refused(GroupError),
    /// The agent or the metastore says no, or nothing: nobody knows what became of it.
    Lost,
}

impl Member {
    pub(crate) fn new(world: &Arc<World>, kind: Kind, number: u64) -> Member {
        let dice = world.dice_of(5_000 + 100 * (kind as u64) + number, world.clock);
        let name = format!("{kind:?} member {number}");
        Member { world: Arc::clone(world), dice, kind, name, life: 0, agent: None, id: None, positions: BTreeMap::new() }
    }

    pub(crate) async fn run(mut self) {
        let over = self.world.over.clone();
        while !over.is_cancelled() {
            tokio::select! {
                biased;
                () = over.cancelled() => return,
                () = self.live() => {}
            }
            // It was told to join again, or crashed, or left.
            self.world.groups().leaves(self.kind, &self.name);
            self.positions.clear();
            let pause = self.dice.millis(10, 500);
            tokio::time::sleep(pause).await;
        }
    }

    /// Until it has to join again.
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

    /// It is somebody else from now on.
    fn forget(&mut self) {
        self.id = None;
        self.life += 1;
    }

    /// It has left, or crashed; after a while it comes back as somebody else.
    async fn stay_away(&mut self) {
        self.world.trace.note(&self.name, "goes");
        self.forget();
        let away = self.dice.millis(10, 6_000);
        tokio::time::sleep(away).await;
    }

    async fn call<T>(&mut self, agent: &Agent, call: impl Future<Output = Result<T, GroupError>>) -> Called<T> {
        match agent.call(call).await {
            Some(Ok(answer)) => return Called::Answered(answer),
            Some(Err(GroupError::Stopping | GroupError::Unavailable(_) | GroupError::Metastore(_))) | None => {}
            Some(Err(error)) => return Called::Refused(error),
        }
        self.agent = None;
        Called::Lost
    }

    /// What a refusal means for the member: it joins again, perhaps as somebody else.
    fn refused(&mut self, error: &GroupError) {
        self.world.trace.note(&self.name, format_args!("is told: {error}"));
        match error {
            GroupError::UnknownMember | GroupError::FencedInstance | GroupError::FencedEpoch => self.forget(),
            GroupError::RebalanceInProgress | GroupError::IllegalGeneration | GroupError::StaleEpoch => {}
            other => self.world.broken(format!("{} is told: {other}", self.name)),
        }
    }

    /// It was told what is its own.
    fn takes(&mut self, share: &Share) {
        self.positions.retain(|log, _| share.owned.contains(log));
        let place = (share.generation, share.owned.clone());
        let mut book = self.world.groups();
        book.saw_generation(self.kind, &share.id, share.generation);
        let kept = book.grants(self.kind, &self.name, &share.id, &place);
        drop(book);
        kept.unwrap_or_else(|slip| self.world.broken(format!("{:?}: {slip}", self.kind)));
    }
}

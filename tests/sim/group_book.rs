//! The book of what groups told their members and what these committed and read, and what must be true of it.

use std::collections::{BTreeMap, BTreeSet};

use yaks::metastore::{Log as _, Offsets as _};
use yaks::types::{GroupId, MemberId, Offset, TopicPartition};

use crate::members::{Kind, TOPICS};
use crate::world::World;

/// What a member understands of itself: its generation or epoch, and what it owns.
type Place = (i32, BTreeSet<TopicPartition>);
/// One group's log.
type GroupLog = (Kind, TopicPartition);

/// Both groups.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// By names of clients.
    places: BTreeMap<(Kind, String), Place>,
    /// To whom each log was given in each generation or epoch.
    owners: BTreeMap<(GroupLog, i32), MemberId>,
    /// The newest generation that anybody was told.
    newest: BTreeMap<Kind, i32>,
    /// The newest generation that each member was told.
    told: BTreeMap<MemberId, i32>,
    /// The highest offset whose commit was answered.
    accepted: BTreeMap<GroupLog, Offset>,
    /// What was in the metastore last.
    stored: BTreeMap<GroupLog, Offset>,
    /// Up to where some member or other has read.
    delivered: BTreeMap<GroupLog, Offset>,
}

impl Book {
    /// The member was just told that it is in a generation, or epoch, and that these are its own.
    pub(crate) fn grants(&mut self, kind: Kind, name: &str, id: &MemberId, place: &Place) -> Result<(), String> {
        let (generation, owned) = place;
        self.places.insert((kind, name.to_owned()), place.clone());
        for log in owned {
            let before = self.owners.entry(((kind, *log), *generation)).or_insert_with(|| id.clone());
            if before != id {
                return Err(format!("{log} has two owners in generation {generation}: {before} and {id}"));
            }
        }
        Ok(())
    }

    pub(crate) fn saw_generation(&mut self, kind: Kind, id: &MemberId, generation: i32) {
        for newest in [self.newest.entry(kind).or_default(), self.told.entry(id.clone()).or_default()] {
            *newest = generation.max(*newest);
        }
    }

    /// The client is in no generation any more.
    pub(crate) fn leaves(&mut self, kind: Kind, name: &str) {
        self.places.remove(&(kind, name.to_owned()));
    }

    /// The member may still be in this generation, as far as anybody knows.
    pub(crate) fn may_be_in(&self, id: &MemberId, generation: i32) -> bool {
        self.told.get(id).is_none_or(|told| *told <= generation)
    }

    /// Why a commit that begins now must be refused: there is a later generation, or one in which somebody else was given the log.
    pub(crate) fn overtaken(&self, kind: Kind, id: &MemberId, generation: i32, log: TopicPartition) -> Option<String> {
        let newest = self.newest.get(&kind).copied().unwrap_or(0);
        if kind == Kind::Classic && newest > generation {
            return Some(format!("generation {newest} had begun"));
        }
        let later = self.owners.range(((kind, log), generation + 1)..=((kind, log), i32::MAX));
        later
            .map(|((_, given), owner)| (given, owner))
            .find(|(_, owner)| *owner != id)
            .map(|(given, owner)| format!("{owner} had it in {given}"))
    }

    pub(crate) fn accepted(&mut self, kind: Kind, log: TopicPartition, offset: Offset) {
        let highest = self.accepted.entry((kind, log)).or_insert(offset);
        *highest = offset.max(*highest);
    }

    /// Below that no look at the committed offset that begins now may find it.
    pub(crate) fn floor(&self, kind: Kind, log: TopicPartition) -> Offset {
        self.accepted.get(&(kind, log)).copied().unwrap_or(Offset(0))
    }

    /// Somebody was given the records of the log from `from` on, up to `until`.
    pub(crate) fn delivers(&mut self, kind: Kind, log: TopicPartition, from: Offset, until: Offset) -> Result<(), String> {
        let read = self.delivered.entry((kind, log)).or_insert(Offset(0));
        if from > *read {
            return Err(format!("{log}: records {read} to {from} were skipped"));
        }
        *read = until.max(*read);
        Ok(())
    }

    fn stores(&mut self, kind: Kind, log: TopicPartition, offset: Offset) -> Result<(), String> {
        match self.stored.insert((kind, log), offset) {
            Some(before) if before > offset => Err(format!("{kind:?}: the committed offset of {log} went back from {before} to {offset}")),
            Some(_) | None => Ok(()),
        }
    }
}

/// What is committed in truth, after every commit.
pub(crate) async fn watch(world: &World, group: &GroupId) {
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.group() == *group) else { return };
    for (log, committed) in world.metastore.committed_offsets(group, None).await.expect("memory") {
        let kept = world.groups().stores(kind, log, committed.offset);
        kept.unwrap_or_else(|slip| world.broken(slip));
    }
}

/// At rest every group is whole, its offsets are those that were committed, and it has read everything.
pub(crate) async fn judge(world: &World) {
    let logs: Vec<TopicPartition> =
        world.logs().await.into_iter().filter(|(name, _)| TOPICS.contains(&name.as_str())).map(|(_, log)| log).collect();
    let heads = world.metastore.heads(&logs).await.expect("memory");
    for kind in Kind::ALL.into_iter().filter(|kind| world.plan.members_of(*kind) > 0) {
        whole(world, kind, &logs);
        watch(world, &kind.group()).await;
        let slips: Vec<String> = {
            let book = world.groups();
            let ends = logs.iter().zip(&heads).map(|(log, head)| (*log, head.map_or(Offset(0), |head| head.high_watermark)));
            ends.filter_map(|(log, end)| book.lacks(kind, log, end)).collect()
        };
        for slip in slips {
            world.broken(format!("{kind:?}: {slip}"));
        }
    }
}

impl Book {
    fn lacks(&self, kind: Kind, log: TopicPartition, end: Offset) -> Option<String> {
        let at = |of: &BTreeMap<GroupLog, Offset>| of.get(&(kind, log)).copied().unwrap_or(Offset(0));
        let (accepted, stored, delivered) = (at(&self.accepted), at(&self.stored), at(&self.delivered));
        if stored < accepted {
            return Some(format!("{log}: the commit of {accepted} is gone, {stored} is there"));
        }
        (delivered < end).then(|| format!("{log}: nobody was given the records {delivered} to {end}"))
    }
}

/// All members are in one generation or epoch, and own every log once.
fn whole(world: &World, kind: Kind, logs: &[TopicPartition]) {
    let places: Vec<Place> = world.groups().places.iter().filter(|((of, _), _)| *of == kind).map(|(_, place)| place.clone()).collect();
    let generations: BTreeSet<i32> = places.iter().map(|(generation, _)| *generation).collect();
    let mut owned: Vec<TopicPartition> = places.iter().flat_map(|(_, owned)| owned.iter().copied()).collect();
    owned.sort();
    let mut logs = logs.to_vec();
    logs.sort();
    if places.len() as u64 != world.plan.members_of(kind) || generations.len() != 1 || owned != logs {
        world.broken(format!("{kind:?}: the group has not settled: {places:?}"));
    }
}

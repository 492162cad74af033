//! The book of what groups told their members and what these committed, and what must be true of it.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;
use yaks::metastore::Offsets as _;
use yaks::types::{MemberId, TopicPartition};

use crate::members::Kind;
use crate::world::World;

/// A member as it understands itself: what it is called, its generation or epoch, and what it owns.
type Owns = (MemberId, i32, BTreeSet<TopicPartition>);

/// What somebody was given.
#[derive(Debug, Clone)]
struct Grant {
    member: String,
    generation: i32,
    at: Instant,
}

#[derive(Debug)]
struct Commit {
    kind: Kind,
    generation: i32,
    log: TopicPartition,
    value: i64,
    began: Instant,
    ended: Option<Instant>,
    /// `None`: nobody knows.
    accepted: Option<bool>,
    /// Why it must be refused, known before it began: a later generation, or somebody else who was given the log.
    overtaken: Option<String>,
}

/// Both groups.
#[derive(Debug, Default)]
pub(crate) struct Book {
    owners: BTreeMap<(Kind, String), Owns>,
    granted: BTreeMap<(Kind, TopicPartition), Grant>,
    /// The newest generation of the classic group that anybody was told.
    newest: i32,
    commits: Vec<Commit>,
}

impl Book {
    pub(crate) fn saw_generation(&mut self, generation: i32) {
        self.newest = self.newest.max(generation);
    }

    /// Returns what it owned before.
    pub(crate) fn owns(&mut self, kind: Kind, member: &str, owned: Option<Owns>) -> Option<Owns> {
        match owned {
            Some(owned) => self.owners.insert((kind, member.to_owned()), owned),
            None => self.owners.remove(&(kind, member.to_owned())),
        }
    }

    /// The member was just told that these are its own.
    pub(crate) fn grants(&mut self, kind: Kind, member: &str, generation: i32, owned: &BTreeSet<TopicPartition>) {
        for log in owned {
            let newer = self.granted.get(&(kind, *log)).is_none_or(|before| before.generation <= generation);
            let same = self.granted.get(&(kind, *log)).is_some_and(|before| before.member == member);
            if newer && !same {
                let grant = Grant { member: member.to_owned(), generation, at: Instant::now() };
                self.granted.insert((kind, *log), grant);
            }
        }
    }

    /// A value nobody else commits.
    pub(crate) fn begins_commit(&mut self, kind: Kind, member: &str, generation: i32, log: TopicPartition, began: Instant) -> i64 {
        let value = self.commits.len() as i64 + 1;
        let other = |grant: &&Grant| grant.member != member && grant.generation > generation && grant.at < began;
        let taken = self.granted.get(&(kind, log)).filter(other).map(|grant| format!("{grant:?}"));
        let later = (kind == Kind::Classic && self.newest > generation).then(|| format!("generation {}", self.newest));
        let overtaken = taken.or(later);
        self.commits.push(Commit { kind, generation, log, value, began, ended: None, accepted: None, overtaken });
        value
    }

    /// What was wrong with it, if it was accepted.
    pub(crate) fn ends_commit(&mut self, kind: Kind, value: i64, accepted: Option<bool>, ended: Instant) -> Option<String> {
        let commit = self.commits.iter_mut().find(|commit| commit.kind == kind && commit.value == value)?;
        (commit.accepted, commit.ended) = (accepted, Some(ended));
        let overtaken = commit.overtaken.as_ref().filter(|_| accepted == Some(true))?;
        Some(format!("a commit of generation {} was accepted after {overtaken}", commit.generation))
    }

    fn committed(&self, kind: Kind, log: TopicPartition) -> impl Iterator<Item = &Commit> {
        self.commits.iter().filter(move |commit| commit.kind == kind && commit.log == log)
    }

    /// Whether `value` may be what a log's offset is in the end: no accepted commit began after it had ended.
    fn may_last(&self, kind: Kind, log: TopicPartition, value: i64) -> bool {
        let Some(last) = self.committed(kind, log).find(|commit| commit.value == value) else { return false };
        let accepted = |commit: &&Commit| commit.accepted == Some(true);
        let later = |commit: &&Commit| last.accepted == Some(true) && last.ended.is_some_and(|ended| commit.began > ended);
        last.accepted != Some(false) && !self.committed(kind, log).filter(accepted).any(|commit| later(&commit))
    }
}

/// At rest every group is whole, and its offsets are what was committed last.
pub(crate) async fn judge(world: &World) {
    let logs: Vec<TopicPartition> =
        world.logs().await.into_iter().filter(|(name, _)| ["orders", "lines"].contains(&name.as_str())).map(|(_, log)| log).collect();
    for kind in Kind::ALL.into_iter().filter(|kind| world.plan.members_of(*kind) > 0) {
        whole(world, kind, &logs);
        let committed = world.metastore.committed_offsets(&kind.group(), None).await.expect("memory");
        let committed: BTreeMap<TopicPartition, i64> = committed.into_iter().map(|(log, at)| (log, at.offset.0)).collect();
        for log in &logs {
            let book = world.groups();
            let known = book.committed(kind, *log).any(|commit| commit.accepted == Some(true));
            let slip = match committed.get(log) {
                None if known => Some("a commit that was accepted is gone".to_owned()),
                Some(value) if !book.may_last(kind, *log, *value) => Some(format!("the offset {value} is not the last commit")),
                None | Some(_) => None,
            };
            drop(book);
            if let Some(slip) = slip {
                world.broken(format!("{kind:?}: {log}: {slip}"));
            }
        }
    }
}

/// All members are in one generation or epoch, and own every log once.
fn whole(world: &World, kind: Kind, logs: &[TopicPartition]) {
    let owners: Vec<Owns> = world.groups().owners.iter().filter(|((of, _), _)| *of == kind).map(|(_, owns)| owns.clone()).collect();
    let generations: BTreeSet<i32> = owners.iter().map(|(_, generation, _)| *generation).collect();
    let owned: Vec<TopicPartition> = owners.iter().flat_map(|(_, _, owned)| owned.iter().copied()).collect();
    let all: BTreeSet<TopicPartition> = owned.iter().copied().collect();
    if owners.len() as u64 != world.plan.members_of(kind) || generations.len() != 1 || owned.len() != logs.len() || all.len() != logs.len()
    {
        world.broken(format!("{kind:?}: the group has not settled: {owners:?}"));
    }
}

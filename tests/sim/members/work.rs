//! What members do with what they own: they look where to begin, read, and commit how far they came.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use yaks::fetch::{FetchLog, FetchRequest};
use yaks::group::Committer;
use yaks::metastore::{CommittedOffset, Offsets as _};
use yaks::types::{Offset, TopicPartition};

use super::{Called, Member, Share};
use crate::agent::Agent;
use crate::consumers::check_answer;
use crate::sights::Sight;

/// Most fetches of one log in a row; some agents give little at a time.
const FETCHES: usize = 1_000;

impl Member {
    /// Reads one log of its own, in the end all, and perhaps commits; false if it has to join again.
    pub(super) async fn work(&mut self, agent: &Agent, share: &Share) -> bool {
        let mut logs: Vec<TopicPartition> = share.owned.iter().copied().collect();
        if !self.world.is_ending() && !logs.is_empty() {
            logs = vec![*self.dice.pick(&logs)];
        }
        for log in logs {
            let Some(from) = self.position(agent, log).await else { continue };
            let next = self.read(agent, log, from).await;
            self.positions.insert(log, next);
            if next > Offset(0) && !self.dice.chance(400) && !self.commit(agent, share, log, next).await {
                return false;
            }
        }
        true
    }

    /// Where it goes on; at first where its group has come to.
    async fn position(&mut self, agent: &Agent, log: TopicPartition) -> Option<Offset> {
        if let Some(position) = self.positions.get(&log) {
            return Some(*position);
        }
        let floor = self.world.groups().floor(self.kind, log);
        let found = agent.call(agent.link.committed_offsets(&self.kind.group(), Some(&[log]))).await?.ok()?;
        let committed = found.first().map_or(Offset(0), |(_, committed)| committed.offset);
        self.world.trace.note(&self.name, format_args!("begins {log} at {committed}"));
        if committed < floor {
            self.world.broken(format!("{}: the commit of {floor} is gone: {log} is to be read from {committed}", self.name));
        }
        Some(committed)
    }

    /// Everything there is, from `next` on; returns where that ends.
    async fn read(&mut self, agent: &Agent, log: TopicPartition, mut next: Offset) -> Offset {
        for _ in 0..FETCHES {
            let wanted = FetchLog { log, from: next, max_bytes: 1 << 20 };
            let request = FetchRequest { logs: vec![wanted], max_bytes: 1 << 20, min_bytes: 0, max_wait: Duration::ZERO };
            let Some(mut answer) = agent.call(agent.rooms.reader.fetch(request)).await else { break };
            let Some(Ok(fetched)) = answer.pop() else { break };
            let last = match check_answer(&wanted, &fetched) {
                Ok(read) => read.last().map(|record| record.offset),
                Err(what) => {
                    self.world.broken(format!("{}: {} about {log}: {what}", self.name, agent.name));
                    None
                }
            };
            let Some(last) = last else { break };
            let delivered = self.world.groups().delivers(self.kind, log, next, last.plus(1));
            delivered.unwrap_or_else(|slip| self.world.broken(format!("{}: {slip}", self.name)));
            next = last.plus(1);
        }
        next
    }

    /// False if it has to join again.
    async fn commit(&mut self, agent: &Agent, share: &Share, log: TopicPartition, offset: Offset) -> bool {
        let overtaken = self.world.groups().overtaken(self.kind, &share.id, share.generation, log);
        let committer = Committer { member: Some(share.id.clone()), instance: None, generation: share.generation };
        let offsets = [(log, CommittedOffset { offset, leader_epoch: -1, metadata: None })];
        let group = self.kind.group();
        match self.call(agent, agent.rooms.groups.commit(&group, &committer, &offsets)).await {
            Called::Answered(()) => {
                self.world.groups().accepted(self.kind, log, offset);
                if let Some(why) = overtaken {
                    let what = format!("a commit of generation {} was accepted after {why}", share.generation);
                    self.world.broken(format!("{}: {what}", self.name));
                }
                true
            }
            Called::Refused(error) => {
                self.world.sights.saw(Sight::CommitRefused, 1);
                self.refused(&error);
                false
            }
            Called::Lost => true,
        }
    }

    /// Commits of a life that is over, or of a generation, that arrive late: they say how far it had come.
    pub(super) fn send_late(&self, share: &Share, positions: &BTreeMap<TopicPartition, Offset>) {
        let positions: Vec<(TopicPartition, Offset)> = positions.iter().map(|(log, offset)| (*log, *offset)).collect();
        for number in 0..if positions.is_empty() { 0 } else { self.dice.below(5) } {
            let (log, offset) = *self.dice.pick(&positions);
            let late = self.dice.millis(0, 2_500);
            let name = format!("{} (late {number})", self.name);
            let dice = self.world.dice_of(9_000 + self.dice.below(1 << 40), self.world.clock);
            let mut sender = Member { dice, name, ..Member::new(&self.world, self.kind, 0) };
            let (share, goes_on) = (share.clone(), self.id.clone());
            let world = Arc::clone(&self.world);
            self.world.tasks.spawn("late commit", async move {
                tokio::time::sleep(late).await;
                // Commits of one member in one generation come in order; what is late is so because there is something newer.
                let in_order = goes_on.is_some_and(|id| world.groups().may_be_in(&id, share.generation));
                if let Some(agent) = sender.connected().filter(|_| !in_order) {
                    sender.commit(&agent, &share, log, offset).await;
                }
            });
        }
    }
}

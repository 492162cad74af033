//! Groups and their offsets in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;

use super::{MemoryMetastore, State};
use crate::metastore::{
    Beat, Change, CommittedOffset, GroupChange, GroupLabel, GroupRow, GroupSweep, GroupVersion, Groups, GroupsSwept, Offsets, Result,
};
use crate::types::{GroupId, Timestamp, TopicPartition};

/// A group's row.
#[derive(Debug)]
pub(super) struct Row {
    version: GroupVersion,
    change: GroupChange,
}

/// How long a member's session lasts after a sign of life, and when it ends.
#[derive(Debug)]
pub(super) struct Session {
    timeout: Duration,
    ends: Timestamp,
}

/// With the time of the commit.
pub(super) type Committed = BTreeMap<TopicPartition, (CommittedOffset, Timestamp)>;

impl State {
    fn version_of(&self, group: &GroupId) -> GroupVersion {
        self.groups.get(group).map_or(GroupVersion::NONE, |row| row.version)
    }

    fn sessions_of(&self, group: &GroupId) -> Vec<Beat> {
        self.sessions.keys().filter(|beat| beat.group == *group).cloned().collect()
    }

    fn renew(&mut self, beat: &Beat, timeout: Duration, now: Timestamp) {
        self.sessions.insert(beat.clone(), Session { timeout, ends: now.plus(timeout) });
    }

    fn is_idle(&self, group: &GroupId, since: Timestamp) -> bool {
        self.groups.get(group).is_some_and(|row| row.change.empty_since.is_some_and(|at| at <= since))
    }
}

#[async_trait]
impl Groups for MemoryMetastore {
    async fn load_groups(&self, groups: &[GroupId]) -> Result<Vec<GroupRow>> {
        let (state, now) = (self.state(), self.clock.now());
        let row = |group: &GroupId| GroupRow {
            version: state.version_of(group),
            state: state.groups.get(group).map(|row| row.change.state.clone()).unwrap_or_default(),
            now,
        };
        Ok(groups.iter().map(row).collect())
    }

    async fn store_group(&self, group: &GroupId, expected: GroupVersion, change: &GroupChange) -> Result<Option<GroupVersion>> {
        let now = self.clock.now();
        let mut state = self.state();
        if state.version_of(group) != expected {
            return Ok(None);
        }
        let version = GroupVersion(state.number());
        state.groups.insert(group.clone(), Row { version, change: change.clone() });
        for member in &change.forget {
            state.sessions.remove(&Beat { group: group.clone(), member: member.clone() });
        }
        for (member, timeout) in &change.renew {
            state.renew(&Beat { group: group.clone(), member: member.clone() }, *timeout, now);
        }
        drop(state);
        if change.announce {
            self.subscribers.announce(&Change::Group { group: group.clone(), version });
        }
        Ok(Some(version))
    }

    async fn delete_group(&self, group: &GroupId, expected: GroupVersion) -> Result<bool> {
        let mut state = self.state();
        if state.version_of(group) != expected {
            return Ok(false);
        }
        state.groups.remove(group);
        state.offsets.remove(group);
        state.sessions.retain(|beat, _| beat.group != *group);
        Ok(true)
    }

    async fn list_groups(&self) -> Result<Vec<(GroupId, GroupLabel)>> {
        let state = self.state();
        let all: BTreeSet<&GroupId> = state.groups.keys().chain(state.offsets.keys()).collect();
        let label = |group: &GroupId| state.groups.get(group).map(|row| row.change.label.clone()).unwrap_or_default();
        Ok(all.into_iter().map(|group| (group.clone(), label(group))).collect())
    }

    async fn beat(&self, beats: &[Beat], known: &[(GroupId, GroupVersion)]) -> Result<Vec<(GroupId, GroupVersion)>> {
        let now = self.clock.now();
        let mut state = self.state();
        for beat in beats {
            if let Some(session) = state.sessions.get_mut(beat) {
                session.ends = now.plus(session.timeout);
            }
        }
        let present = known.iter().map(|(group, version)| (group, *version, state.version_of(group)));
        Ok(present.filter(|(_, known, present)| known != present).map(|(group, _, present)| (group.clone(), present)).collect())
    }

    async fn sweep_groups(&self, sweep: GroupSweep) -> Result<Option<GroupsSwept>> {
        let now = self.clock.now();
        let mut state = self.state();
        let idle = state.sessions.is_empty() && state.groups.values().all(|row| row.change.due.is_none());
        if idle || now < state.groups_swept_at.plus(sweep.period) {
            return Ok(None);
        }
        let lapsed = now > state.groups_swept_at.plus(sweep.lapse);
        state.groups_swept_at = now;
        if lapsed {
            state.sessions.values_mut().for_each(|session| session.ends = now.plus(session.timeout));
        }
        let due = state.groups.iter().filter(|(_, row)| row.change.due.is_some_and(|due| due <= now));
        let silent = state.sessions.iter().filter(|(_, session)| session.ends.plus(sweep.grace) <= now);
        Ok(Some(GroupsSwept {
            due: due.map(|(group, _)| group.clone()).take(sweep.limit).collect(),
            silent: silent.map(|(beat, session)| (beat.clone(), session.ends)).take(sweep.limit).collect(),
        }))
    }

    async fn expire_groups(&self, retention: Duration, linger: Duration, limit: usize) -> Result<bool> {
        let now = self.clock.now();
        let mut state = self.state();
        let before = |age: Duration| Timestamp(now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)));
        let old = before(retention);
        let unused = |group: &&GroupId| !state.groups.contains_key(*group) || state.is_idle(group, old);
        let logs = state
            .offsets
            .iter()
            .filter(|(group, _)| unused(group))
            .flat_map(|(group, committed)| committed.iter().filter(|(_, (_, at))| *at <= old).map(|(log, _)| (group.clone(), *log)));
        let doomed: Vec<_> = logs.take(limit + 1).collect();
        for (group, log) in doomed.iter().take(limit) {
            state.offsets.get_mut(group).map(|committed| committed.remove(log));
        }
        state.offsets.retain(|_, committed| !committed.is_empty());
        let empty = |group: &&GroupId| !state.offsets.contains_key(*group) && state.sessions_of(group).is_empty();
        let rows = state.groups.keys().filter(|group| state.is_idle(group, before(linger))).filter(empty);
        let rows: Vec<GroupId> = rows.take(limit).cloned().collect();
        for group in &rows {
            state.groups.remove(group);
        }
        Ok(doomed.len() > limit || rows.len() >= limit)
    }

    async fn delete_offsets(&self, group: &GroupId, expected: GroupVersion, logs: &[TopicPartition]) -> Result<bool> {
        let mut state = self.state();
        if state.version_of(group) != expected {
            return Ok(false);
        }
        if let Some(committed) = state.offsets.get_mut(group) {
            committed.retain(|log, _| !logs.contains(log));
        }
        state.offsets.retain(|_, committed| !committed.is_empty());
        Ok(true)
    }
}

#[async_trait]
impl Offsets for MemoryMetastore {
    async fn commit_offsets(&self, group: &GroupId, expected: GroupVersion, offsets: &[(TopicPartition, CommittedOffset)]) -> Result<bool> {
        let now = self.clock.now();
        let mut state = self.state();
        if state.version_of(group) != expected {
            return Ok(false);
        }
        if !offsets.is_empty() {
            let offsets = offsets.iter().map(|(log, offset)| (*log, (offset.clone(), now)));
            state.offsets.entry(group.clone()).or_default().extend(offsets);
        }
        Ok(true)
    }

    async fn committed_offsets(&self, group: &GroupId, logs: Option<&[TopicPartition]>) -> Result<Vec<(TopicPartition, CommittedOffset)>> {
        let state = self.state();
        let Some(committed) = state.offsets.get(group) else { return Ok(Vec::new()) };
        let wanted: Option<BTreeSet<TopicPartition>> = logs.map(|logs| logs.iter().copied().collect());
        let chosen = committed.iter().filter(|(log, _)| wanted.as_ref().is_none_or(|w| w.contains(log)));
        Ok(chosen.map(|(log, (offset, _))| (*log, offset.clone())).collect())
    }
}

//! Write events, rounds, segments and heads in memory.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;

use super::{MemoryMetastore, State};
use crate::metastore::leases::id_was_taken;
use crate::metastore::round::{INDEX_BYTES, Taken, due_in, pending_event, report};
use crate::metastore::{Change, Decide, Log, LogView, PendingEvents, Result, Round, RoundLimits, RoundReport, SegmentQuery, WriteEvent};
use crate::partition::{Decisions, ObjectVerdict, Snapshot, touched};
use crate::types::{Head, NodeId, ObjectId, Offset, ProducerId, Segment, Timestamp, TopicPartition};

#[async_trait]
impl Log for MemoryMetastore {
    async fn append(&self, events: &[WriteEvent], writer: [u8; 16]) -> Result<()> {
        let now = self.clock.now();
        let mut state = self.state();
        let is_taken = |node: &NodeId| state.agents.get(node).is_some_and(|(agent, until)| agent.instance != writer && *until > now);
        if let Some(node) = events.iter().map(|event| event.node).find(is_taken) {
            return Err(id_was_taken(node));
        }
        for event in events {
            if !state.has_event(event.object) {
                let number = state.number();
                state.inlined.extend(event.inlined.clone().map(|body| (event.object, body)));
                state.pending.insert(number, (event.clone(), now));
            }
        }
        Ok(())
    }

    fn inline_max(&self) -> u64 {
        self.inline_max
    }

    async fn find_events(&self, objects: &[ObjectId]) -> Result<Vec<ObjectId>> {
        let state = self.state();
        Ok(objects.iter().filter(|o| state.has_event(**o)).copied().collect())
    }

    async fn verdicts(&self, objects: &[ObjectId]) -> Result<Vec<(ObjectId, ObjectVerdict)>> {
        let state = self.state();
        Ok(objects.iter().filter_map(|o| Some((*o, state.verdicts.get(o)?.clone()))).collect())
    }

    async fn run_round(&self, limits: RoundLimits, decide: &Decide) -> Result<Round> {
        let Ok(round) = self.round.try_lock() else { return Ok(Round::Busy) };
        let (taken, snapshot) = self.state().take(limits, self.clock.now());
        let now = snapshot.now;
        if taken.events.is_empty() && snapshot.parked.is_empty() {
            let next_due = due_in(self.state().next_deadline(), now);
            return Ok(Round::Done(RoundReport { next_due, ..RoundReport::default() }));
        }
        let decisions = decide(snapshot);
        let next_deadline = self.state().store(&taken, &decisions);
        drop(round);
        let report = report(&taken, now, decisions, next_deadline);
        self.subscribers.announce(&Change::Heads(report.heads.clone()));
        Ok(Round::Done(report))
    }

    async fn pending_events(&self) -> Result<PendingEvents> {
        let (now, state) = (self.clock.now(), self.state());
        let oldest = state.pending.values().map(|(_, at)| *at).min();
        let oldest = oldest.map(|at| Duration::from_millis(u64::try_from(now.0.saturating_sub(at.0)).unwrap_or(0)));
        Ok(PendingEvents { count: state.pending.len() as u64, oldest, set_aside: state.set_aside.len() as u64 })
    }

    async fn heads(&self, logs: &[TopicPartition]) -> Result<Vec<Option<Head>>> {
        let state = self.state();
        Ok(logs.iter().map(|log| state.heads.get(log).copied()).collect())
    }

    async fn segments(&self, queries: &[SegmentQuery]) -> Result<Vec<Option<LogView>>> {
        let state = self.state();
        Ok(queries.iter().map(|q| state.view(q)).collect())
    }

    async fn first_segment_since(&self, log: TopicPartition, at: Timestamp) -> Result<Option<Segment>> {
        let state = self.state();
        let Some(head) = state.heads.get(&log) else { return Ok(None) };
        Ok(state.segments_from(log, head.log_start).find(|s| s.max_timestamp_so_far >= at).copied())
    }

    async fn expire_producers(&self, idle: Duration, limit: usize) -> Result<bool> {
        let idle = i64::try_from(idle.as_millis()).unwrap_or(i64::MAX);
        let before = Timestamp(self.clock.now().0.saturating_sub(idle));
        let mut state = self.state();
        let expired: Vec<_> = state.producers.iter().filter(|(_, s)| s.last_used <= before).map(|(key, _)| *key).take(limit + 1).collect();
        for key in expired.iter().take(limit) {
            state.producers.remove(key);
        }
        Ok(expired.len() > limit)
    }

    async fn reserve_producer_ids(&self, count: u32) -> Result<ProducerId> {
        Ok(self.state().reserve_producer_ids(count))
    }
}

impl State {
    fn has_event(&self, object: ObjectId) -> bool {
        self.verdicts.contains_key(&object)
            || self.set_aside.contains_key(&object)
            || self.pending.values().any(|(event, _)| event.object == object)
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.parked.values().map(|p| p.deadline).min()
    }

    fn segments_from(&self, log: TopicPartition, from: Offset) -> impl Iterator<Item = &Segment> {
        self.segments.range((log, from)..=(log, Offset(i64::MAX))).map(|(_, segment)| segment)
    }

    fn view(&self, query: &SegmentQuery) -> Option<LogView> {
        let head = *self.heads.get(&query.log)?;
        let (mut segments, mut bytes) = (Vec::new(), 0);
        for segment in self.segments_from(query.log, query.from).take(query.max_segments) {
            segments.push(*segment);
            bytes += segment.range.len;
            if bytes >= query.max_bytes {
                break;
            }
        }
        Some(LogView { head, segments })
    }

    fn take(&self, limits: RoundLimits, now: Timestamp) -> (Taken, Snapshot) {
        let (mut taken, mut bytes) = (Taken::default(), 0);
        for (event, at) in self.pending.values() {
            if taken.events.len() == limits.events || bytes >= INDEX_BYTES {
                taken.more = true;
                break;
            }
            bytes += event.index.len() as u64;
            taken.oldest = Some(taken.oldest.map_or(*at, |oldest| oldest.min(*at)));
            taken.events.push(pending_event(event.object, event.object_bytes, &event.index));
        }
        let snapshot = self.snapshot(&taken, now);
        (taken, snapshot)
    }

    fn snapshot(&self, taken: &Taken, now: Timestamp) -> Snapshot {
        let due = self.parked.values().filter(|p| p.deadline <= now).map(|p| p.log);
        let logs: BTreeSet<TopicPartition> = touched(&taken.events, &[]).logs.into_iter().chain(due).collect();
        let parked: Vec<_> = self.parked.values().filter(|p| logs.contains(&p.log)).copied().collect();
        let touched = touched(&taken.events, &parked);
        Snapshot {
            events: taken.events.clone(),
            parked_verdicts: parked.iter().filter_map(|p| Some((p.object, self.verdicts.get(&p.object)?.clone()))).collect(),
            heads: touched.logs.iter().filter_map(|log| Some((*log, *self.heads.get(log)?))).collect(),
            producers: touched.producers.iter().filter_map(|key| Some((*key, self.producers.get(key)?.clone()))).collect(),
            parked,
            now,
        }
    }

    /// Stores a round; returns the earliest deadline of what is still parked.
    fn store(&mut self, taken: &Taken, decisions: &Decisions) -> Option<Timestamp> {
        let objects = taken.objects();
        self.pending.retain(|_, (event, _)| !objects.contains(&event.object));
        self.set_aside.extend(decisions.set_aside.iter().cloned());
        self.verdicts.extend(decisions.verdicts.iter().cloned());
        self.segments.extend(decisions.segments.iter().map(|s| ((s.log, s.last_offset), *s)));
        self.heads.extend(&decisions.heads);
        self.producers.extend(decisions.producers.iter().cloned());
        let settled: BTreeSet<_> = decisions.unpark.iter().copied().collect();
        self.parked.retain(|_, p| !settled.contains(&(p.object, p.run, p.batch)));
        for parked in &decisions.park {
            let number = self.number();
            self.parked.insert(number, *parked);
        }
        self.next_deadline()
    }
}

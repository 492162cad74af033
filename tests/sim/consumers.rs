//! Clients that consume: they follow the ends of logs, move between agents, and check every answer.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use yaks::fetch::{FetchError, FetchLog, FetchRequest, FetchResponse, Fetched};
use yaks::metastore::{Log as _, TopicQuery, Topics as _};
use yaks::oracle::history::Observed;
use yaks::types::{Head, Offset, TopicName, TopicPartition};

use crate::agent::Agent;
use crate::records;
use crate::world::{Dice, World};

/// Follows some logs.
#[derive(Debug)]
pub(crate) struct Tailer {
    world: Arc<World>,
    dice: Dice,
    name: String,
    positions: Vec<Position>,
    agent: Option<Arc<Agent>>,
    /// What each agent said last of where each log ends.
    ends: BTreeMap<(String, TopicPartition), Offset>,
}

#[derive(Debug)]
struct Position {
    topic: TopicName,
    partition: i32,
    log: Option<TopicPartition>,
    next: Offset,
}

impl Tailer {
    pub(crate) fn new(world: &Arc<World>, number: u64) -> Tailer {
        let dice = world.dice_of(700 + number, world.clock);
        let all = world.plan.topics.iter().flat_map(|(name, n)| (0..*n).map(|p| (name.clone(), p)));
        let position = |(topic, partition)| Position { topic, partition, log: None, next: Offset(0) };
        let mut positions: Vec<Position> = all.filter(|_| dice.chance(700)).map(position).collect();
        if positions.is_empty() {
            positions.push(position(world.plan.topics[0].clone()));
            positions[0].partition = 0;
        }
        Tailer { name: format!("tailer {number}"), world: Arc::clone(world), dice, positions, agent: None, ends: BTreeMap::new() }
    }

    pub(crate) async fn run(mut self) {
        let over = self.world.over.clone();
        while !over.is_cancelled() {
            let Some(agent) = self.connected().await else { continue };
            if self.positions.iter().any(|p| p.log.is_none()) {
                self.look_for_topics(&agent).await;
            }
            tokio::select! {
                biased;
                () = over.cancelled() => return,
                () = self.poll(&agent) => {}
            }
        }
    }

    async fn connected(&mut self) -> Option<Arc<Agent>> {
        let stays = self.agent.as_ref().is_some_and(|agent| !agent.is_dead()) && !self.dice.chance(50);
        if !stays {
            let agents = self.world.live_agents();
            self.agent = (!agents.is_empty()).then(|| Arc::clone(self.dice.pick(&agents)));
        }
        if self.agent.is_none() {
            tokio::time::sleep(self.dice.millis(10, 200)).await;
        }
        self.agent.clone()
    }

    async fn look_for_topics(&mut self, agent: &Agent) {
        let names = self.positions.iter().map(|p| p.topic.clone()).collect();
        let Some(Ok(found)) = agent.call(agent.link.find_topics(&TopicQuery::Names(names))).await else { return };
        for position in &mut self.positions {
            let id = found.iter().find(|topic| topic.name == position.topic).map(|topic| topic.id);
            let log = id.map(|id| TopicPartition::new(id, position.partition));
            if position.log != log {
                (position.log, position.next) = (log, Offset(0));
            }
        }
    }

    async fn poll(&mut self, agent: &Arc<Agent>) {
        let request = self.request();
        if request.logs.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            return;
        }
        let began = Instant::now();
        let Some(response) = agent.call(agent.rooms.reader.fetch(request.clone())).await else {
            self.agent = None;
            return;
        };
        self.check_limits(&request, &response, began.elapsed(), agent);
        let mut failed = false;
        for (log, answer) in request.logs.iter().zip(response) {
            failed |= !self.take(agent, log, answer).await;
        }
        let pause = if failed { self.dice.millis(10, 200) } else { self.dice.millis(0, 20) };
        tokio::time::sleep(pause).await;
    }

    fn request(&self) -> FetchRequest {
        let max_bytes = *self.dice.pick(&[1, 300, 3_000, 1 << 20, 1 << 20]);
        let logs = self.positions.iter().filter_map(|p| Some(FetchLog { log: p.log?, from: p.next, max_bytes }));
        FetchRequest {
            logs: logs.collect(),
            max_bytes: *self.dice.pick(&[1, 1_000, 10_000, 1 << 20, 1 << 20]),
            min_bytes: *self.dice.pick(&[0, 1, 1, 500, 100_000]),
            max_wait: Duration::from_millis(*self.dice.pick(&[0, 50, 500, 2_000])),
        }
    }

    /// Budgets are kept, and nobody is sent away early with nothing.
    fn check_limits(&self, request: &FetchRequest, response: &FetchResponse, took: Duration, agent: &Agent) {
        let good: Vec<&Fetched> = response.iter().flatten().collect();
        let bytes: u64 = good.iter().map(|f| f.bytes()).sum();
        let batches = |f: &Fetched| records::read(&f.records).map_or(0, |set| set.batches);
        if bytes > request.max_bytes && good.iter().map(|f| batches(f)).sum::<usize>() > 1 {
            self.world.broken(format!("{}: {} gave {bytes} bytes, {} were allowed", self.name, agent.name, request.max_bytes));
        }
        for (log, answer) in request.logs.iter().zip(response) {
            let over = answer.as_ref().is_ok_and(|f| f.bytes() > log.max_bytes && batches(f) > 1);
            if over {
                self.world.broken(format!("{}: {} gave more of {} than allowed", self.name, agent.name, log.log));
            }
        }
        let early = took < request.max_wait && request.min_bytes > 0 && !agent.is_closing();
        if early && bytes == 0 && good.len() == response.len() {
            self.world.broken(format!("{}: {} gave nothing after {took:?} instead of {:?}", self.name, agent.name, request.max_wait));
        }
    }

    /// True if the log could be read.
    async fn take(&mut self, agent: &Agent, log: &FetchLog, answer: Result<Fetched, FetchError>) -> bool {
        match answer {
            Ok(fetched) => {
                self.took(agent, log, &fetched);
                true
            }
            Err(FetchError::UnknownLog) => {
                if self.world.exists(log.log.topic).await {
                    self.world.broken(format!("{}: {} does not know {}", self.name, agent.name, log.log));
                }
                self.positions.iter_mut().filter(|p| p.log == Some(log.log)).for_each(|p| p.log = None);
                false
            }
            Err(FetchError::Unavailable(_)) => false,
            Err(error @ (FetchError::OffsetOutOfRange { .. } | FetchError::Corrupt(_))) => {
                self.world.broken(format!("{}: {} about {} from {}: {error}", self.name, agent.name, log.log, log.from));
                false
            }
        }
    }

    fn took(&mut self, agent: &Agent, log: &FetchLog, fetched: &Fetched) {
        let read = match check_answer(log, fetched) {
            Ok(read) => read,
            Err(what) => return self.world.broken(format!("{}: {} about {}: {what}", self.name, agent.name, log.log)),
        };
        let end = fetched.head.high_watermark;
        if let Some(before) = self.ends.insert((agent.name.clone(), log.log), end).filter(|before| *before > end) {
            self.world.broken(format!("{}: {} said that {} ends at {before}, now at {end}", self.name, agent.name, log.log));
        }
        for record in &read {
            let before = self.world.ledger().saw(log.log, record);
            if let Some(before) = before {
                self.world.broken(format!("{}: {} offset {} was {before:?}, now {record:?}", self.name, log.log, record.offset));
            }
        }
        let Some(last) = read.last() else { return };
        self.world.trace.note(&self.name, format_args!("reads {} {} to {} from {}", log.log, log.from, last.offset, agent.name));
        self.positions.iter_mut().filter(|p| p.log == Some(log.log)).for_each(|p| p.next = last.offset.plus(1));
    }
}

/// The records from the wanted offset on: without gaps, below the end.
pub(crate) fn check_answer(log: &FetchLog, fetched: &Fetched) -> Result<Vec<Observed>, String> {
    let Head { high_watermark, .. } = fetched.head;
    let set = records::read(&fetched.records)?;
    if set.records.len() as u64 != fetched.record_count {
        return Err(format!("{} records instead of {}", set.records.len(), fetched.record_count));
    }
    if high_watermark < log.from {
        return Err(format!("the end {high_watermark} lies before the position {}", log.from));
    }
    let Some(first) = set.records.first().map(|r| r.offset) else { return Ok(Vec::new()) };
    for (expected, record) in (first.0..).zip(&set.records) {
        if record.offset != Offset(expected) {
            return Err(format!("offset {} where {expected} should be", record.offset));
        }
    }
    let read: Vec<Observed> = set.records.into_iter().filter(|r| r.offset >= log.from).collect();
    match (read.first(), read.last()) {
        (Some(first), Some(last)) if first.offset == log.from && last.offset < high_watermark => Ok(read),
        _ => Err(format!("offsets {:?} for {}, the end is {high_watermark}", read.first().map(|r| r.offset), log.from)),
    }
}

/// A range of the log, as this agent gives it.
pub(crate) async fn read_range(agent: &Agent, log: TopicPartition, range: Range<Offset>, dice: &Dice) -> Result<Vec<Observed>, String> {
    let mut read: Vec<Observed> = Vec::new();
    let (mut from, mut tries) = (range.start, 0);
    while from < range.end {
        let max_bytes = *dice.pick(&[100, 10_000, 1 << 20]);
        let wanted = FetchLog { log, from, max_bytes };
        let request = FetchRequest { logs: vec![wanted], max_bytes: 1 << 20, min_bytes: 1, max_wait: Duration::from_millis(500) };
        let mut response = agent.call(agent.rooms.reader.fetch(request)).await.ok_or("no answer")?;
        let fetched = response.pop().ok_or("an empty answer")?.map_err(|error| format!("offset {from}: {error}"))?;
        let more = check_answer(&wanted, &fetched)?;
        tries = if more.is_empty() { tries + 1 } else { 0 };
        if tries > 3 {
            return Err(format!("nothing at offset {from}, though the end is {}", range.end));
        }
        from = more.last().map_or(from, |record| record.offset.plus(1));
        read.extend(more);
    }
    Ok(read)
}

/// The ends of logs as the metastore behind `agent` tells them.
pub(crate) async fn ends(agent: &Agent, logs: &[TopicPartition]) -> Result<Vec<Option<Head>>, String> {
    agent.link.heads(logs).await.map_err(|error| error.to_string())
}

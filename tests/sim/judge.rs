//! What must be true when everything has come to rest.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::oneshot::error::TryRecvError;
use yaks::metastore::{Log as _, SegmentQuery};
use yaks::oracle::check;
use yaks::oracle::history::{Attempt, History, LogName, LogRead, Observed, PartialRead, RecordId};
use yaks::store::ObjectStore as _;
use yaks::types::{Offset, TopicName, TopicPartition};

use crate::agent::Agent;
use crate::consumers::{ends, read_range};
use crate::ledger::{Ledger, Leftover, Sent};
use crate::sights::Sight;
use crate::world::World;

/// Logs as they were read, by offset.
type Logs = BTreeMap<TopicPartition, Vec<Observed>>;

/// Judges a world at rest: every slip is noted there.
pub(crate) async fn judge(world: &Arc<World>) {
    settle_leftovers(world);
    at_rest(world).await;
    let names: BTreeMap<TopicPartition, LogName> = world.logs().await.into_iter().map(|(name, log)| (log, log_name(&name, log))).collect();
    let mut history = History::default();
    for (number, agent) in world.live_agents().into_iter().enumerate() {
        let start = if number == 0 { Start::Begin } else { Start::Somewhere };
        let reads = match read_logs(world, &agent, &names, start).await {
            Ok(reads) => reads,
            Err(error) => return world.broken(format!("the ends cannot be read from {}: {error}", agent.name)),
        };
        if number > 0 {
            history.partial_reads.extend(reads.into_iter().map(|(log, read)| partial_read(&agent.name, &names[&log], read)));
            continue;
        }
        let logs = reads.into_iter().map(|(log, read)| (log, read.records)).collect();
        against_ledger(world, &logs);
        history.logs = logs.into_iter().map(|(log, records)| whole_read(names[&log].clone(), records)).collect();
    }
    history.attempts = attempts(world, &names);
    against_rules(world, &history);
}

/// Where the judge begins to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Begin,
    Somewhere,
}

/// A log as one agent gave it.
#[derive(Debug)]
struct Read {
    range: Range<Offset>,
    records: Vec<Observed>,
}

/// All logs as `agent` gives them.
async fn read_logs(
    world: &World,
    agent: &Agent,
    names: &BTreeMap<TopicPartition, LogName>,
    start: Start,
) -> Result<BTreeMap<TopicPartition, Read>, String> {
    let heads = ends(agent, &names.keys().copied().collect::<Vec<_>>()).await?;
    let mut reads = BTreeMap::new();
    for (log, head) in names.keys().zip(heads) {
        let end = head.ok_or_else(|| format!("{log} is not known"))?.high_watermark;
        let from = if start == Start::Begin { Offset(0) } else { Offset(world.dice.below(end.0 as u64 + 1) as i64) };
        match read_range(agent, *log, from..end, &world.dice).await {
            Ok(records) => drop(reads.insert(*log, Read { range: from..end, records })),
            Err(error) => world.broken(format!("{log} cannot be read from {}: {error}", agent.name)),
        }
    }
    Ok(reads)
}

/// The oracle's rules, those of every broker.
fn against_rules(world: &World, history: &History) {
    let report = check::check(history);
    world.sights.saw(Sight::RecordRepeated, report.repeats);
    world.trace.note("judge", format_args!("{} records verified, {} repeats", report.verified, report.repeats));
    for violation in report.violations {
        world.broken(format!("{violation:?}"));
    }
}

/// Topics of one name are told apart by their ids.
fn log_name(name: &TopicName, log: TopicPartition) -> LogName {
    let topic = TopicName::parse(&format!("{name}.{}", log.topic)).expect("legal");
    LogName { topic, partition: log.partition }
}

fn whole_read(log: LogName, records: Vec<Observed>) -> LogRead {
    LogRead { log, start: Offset(0), high_watermark: Offset(records.len() as i64), records }
}

fn partial_read(reader: &str, log: &LogName, read: Read) -> PartialRead {
    PartialRead { reader: reader.to_owned(), log: log.clone(), from: read.range.start, until: read.range.end, records: read.records }
}

fn attempts(world: &World, names: &BTreeMap<TopicPartition, LogName>) -> Vec<Attempt> {
    let ledger = world.ledger();
    let known = ledger.sent.iter().filter_map(|(id, sent)| Some((id, sent, names.get(&sent.log)?)));
    let attempt = |(id, sent, name): (&RecordId, &Sent, &LogName)| Attempt {
        id: *id,
        promise: sent.promise,
        topic: name.topic.clone(),
        partition: Some(name.partition),
        content: sent.content,
        outcome: sent.outcome,
    };
    known.map(attempt).collect()
}

/// Tickets that nobody waited for any longer: those of living agents are settled by now, and what they say counts.
fn settle_leftovers(world: &World) {
    let leftovers = std::mem::take(&mut world.ledger().leftovers);
    for Leftover { agent, mut ticket, span } in leftovers {
        let slip = match ticket.try_recv() {
            Ok(Ok(appended)) => {
                world.ledger().unheard(&span, appended);
                continue;
            }
            // A refusal promises nothing.
            Ok(Err(_)) => continue,
            Err(TryRecvError::Closed) => "dropped",
            Err(TryRecvError::Empty) => "never settled",
        };
        if !agent.is_dead() {
            world.broken(format!("{} {slip} the ticket of {}", agent.name, span.first));
        }
    }
}

/// Nothing is left undecided, and every log's segments lie end to end in objects that are there.
async fn at_rest(world: &World) {
    let pending = world.metastore.pending_events().await.expect("memory").count;
    if pending > 0 {
        world.broken(format!("{pending} events are still pending"));
    }
    for (object, why) in world.metastore.set_aside() {
        world.broken(format!("object {object} was set aside: {why}"));
    }
    for (_, log) in world.logs().await {
        if let Err(what) = check_segments(world, log).await {
            world.broken(format!("{log}: {what}"));
        }
    }
}

async fn check_segments(world: &World, log: TopicPartition) -> Result<(), String> {
    let query = SegmentQuery { log, from: Offset(0), max_bytes: u64::MAX, max_segments: usize::MAX };
    let views = world.metastore.segments(&[query]).await.map_err(|e| e.to_string())?;
    let view = views.into_iter().flatten().next().ok_or("no such log")?;
    let mut next = Offset(0);
    for segment in &view.segments {
        if segment.base_offset != next {
            return Err(format!("a segment begins at {} instead of {next}", segment.base_offset));
        }
        next = segment.last_offset.plus(1);
        world.store.get_range(segment.object, segment.range).await.map_err(|error| format!("offset {}: {error}", segment.base_offset))?;
    }
    if next == view.head.high_watermark { Ok(()) } else { Err(format!("segments end at {next}, the log at {}", view.head.high_watermark)) }
}

/// What readers saw on the way, what tickets said, and how often things were sent, against the logs as they are.
fn against_ledger(world: &World, logs: &Logs) {
    let slips: Vec<String> = {
        let ledger = world.ledger();
        let (seen, told, copies) = (against_seen(&ledger, logs), against_told(&ledger, logs), against_copies(&ledger, logs));
        [seen, told, copies].into_iter().flat_map(|slips| slips.into_iter().take(10)).collect()
    };
    for slip in slips {
        world.broken(slip);
    }
}

fn at(logs: &Logs, log: TopicPartition, offset: Offset) -> Option<&Observed> {
    logs.get(&log)?.get(usize::try_from(offset.0).ok()?)
}

fn against_seen(ledger: &Ledger, logs: &Logs) -> Vec<String> {
    let mut slips = Vec::new();
    for ((log, offset), seen) in ledger.seen.iter().filter(|((log, _), _)| logs.contains_key(log)) {
        let there = at(logs, *log, *offset);
        if there != Some(seen) {
            slips.push(format!("{log} offset {offset} was seen as {:?} and is {:?}", seen.id, there.and_then(|r| r.id)));
        }
    }
    slips
}

fn against_told(ledger: &Ledger, logs: &Logs) -> Vec<String> {
    let mut slips = Vec::new();
    for (span, base) in ledger.told.iter().filter(|(span, _)| logs.contains_key(&span.log)) {
        for (delta, id) in (0..).zip(span.ids()) {
            let offset = base.plus(delta);
            let there = at(logs, span.log, offset).and_then(|record| record.id);
            if there != Some(id) {
                slips.push(format!("{id} was told to be at {} offset {offset}, where {there:?} is", span.log));
            }
        }
    }
    slips
}

fn against_copies(ledger: &Ledger, logs: &Logs) -> Vec<String> {
    let mut copies: BTreeMap<RecordId, u64> = BTreeMap::new();
    logs.values().flatten().filter_map(|record| record.id).for_each(|id| *copies.entry(id).or_default() += 1);
    let sent = |id: &RecordId| ledger.sent.get(id).map_or(0, |sent| sent.copies);
    let too_many = copies.into_iter().filter(|(id, found)| *found > sent(id));
    too_many.map(|(id, found)| format!("{id} is there {found} times and was sent {} times", sent(&id))).collect()
}

//! What must be true when everything has come to rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use yaks::metastore::{Log as _, SegmentQuery};
use yaks::oracle::check;
use yaks::oracle::history::{Attempt, History, LogName, LogRead, Observed, Outcome, PartialRead, RecordId};
use yaks::produce::{Appended, ProduceError};
use yaks::store::ObjectStore as _;
use yaks::types::{Offset, TopicName, TopicPartition};

use crate::consumers::{ends, read_all};
use crate::world::World;

/// Logs as they were read from one agent, by offset.
type Logs = BTreeMap<TopicPartition, Vec<Observed>>;

/// Judges a world at rest: every slip is noted there.
pub(crate) async fn judge(world: &Arc<World>) {
    settle_leftovers(world);
    at_rest(world).await;
    let names: BTreeMap<TopicPartition, LogName> = world.logs().await.into_iter().map(|(name, log)| (log, log_name(&name, log))).collect();
    let mut history = History::default();
    let mut first: Option<Logs> = None;
    for agent in world.live_agents() {
        let heads = match ends(&agent, &names.keys().copied().collect::<Vec<_>>()).await {
            Ok(heads) => heads,
            Err(error) => return world.broken(format!("the ends cannot be read: {error}")),
        };
        let mut logs = Logs::new();
        for (log, head) in names.keys().zip(heads) {
            let end = head.map_or(Offset(-1), |head| head.high_watermark);
            match read_all(&agent, *log, end, &world.dice).await {
                Ok(records) => drop(logs.insert(*log, records)),
                Err(error) => world.broken(format!("{} cannot be read from {}: {error}", log, agent.name)),
            }
        }
        if first.is_some() {
            history.partial_reads.extend(logs.into_iter().map(|(log, records)| partial_read(&agent.name, &names[&log], records)));
        } else {
            first = Some(logs);
        }
    }
    let logs = first.unwrap_or_default();
    against_ledger(world, &logs);
    history.logs = logs.into_iter().map(|(log, records)| whole_read(names[&log].clone(), records)).collect();
    history.attempts = attempts(world, &names);
    let report = check::check(&history);
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

fn partial_read(reader: &str, log: &LogName, records: Vec<Observed>) -> PartialRead {
    PartialRead { reader: reader.to_owned(), log: log.clone(), from: Offset(0), until: Offset(records.len() as i64), records }
}

fn attempts(world: &World, names: &BTreeMap<TopicPartition, LogName>) -> Vec<Attempt> {
    let ledger = world.ledger();
    let known = ledger.sent.iter().filter_map(|(id, sent)| Some((id, sent, names.get(&sent.log)?)));
    let attempt = |(id, sent, name): (&RecordId, &crate::ledger::Sent, &LogName)| Attempt {
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
    for mut leftover in leftovers {
        match leftover.ticket.try_recv() {
            Ok(Ok(Appended::At(offset))) => world.ledger().told.push((leftover.span, offset)),
            Ok(Ok(Appended::Durable)) => acknowledged_unheard(world, &leftover.span),
            Ok(Err(ProduceError::Rejected(_) | ProduceError::StoreFull(_) | ProduceError::Unavailable(_) | ProduceError::ShuttingDown)) => {
            }
            Err(tokio::sync::oneshot::error::TryRecvError::Closed) if !leftover.agent.is_dead() => {
                world.broken(format!("{} dropped the ticket of {}", leftover.agent.name, leftover.span.first));
            }
            Err(tokio::sync::oneshot::error::TryRecvError::Empty) if !leftover.agent.is_dead() => {
                world.broken(format!("{} never settled the ticket of {}", leftover.agent.name, leftover.span.first));
            }
            Err(_) => {}
        }
    }
}

/// Durable is durable, whether its client heard of it or not.
fn acknowledged_unheard(world: &World, span: &crate::ledger::Span) {
    let mut ledger = world.ledger();
    let unknown = span.ids().all(|id| ledger.sent.get(&id).is_some_and(|sent| sent.outcome == Outcome::Unknown));
    if unknown {
        ledger.acknowledged(span, None);
    }
}

/// Nothing is left undecided, and every log's segments lie end to end in objects that are there.
async fn at_rest(world: &World) {
    let pending = world.metastore.pending_events().await.expect("memory");
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
    let mut slips = Vec::new();
    let ledger = world.ledger();
    let at = |log: &TopicPartition, offset: Offset| logs.get(log).and_then(|records| records.get(usize::try_from(offset.0).ok()?));
    for ((log, offset), seen) in ledger.seen.iter().filter(|((log, _), _)| logs.contains_key(log)) {
        if at(log, *offset) != Some(seen) {
            slips.push(format!("{log} offset {offset} was seen as {:?} and is {:?}", seen.id, at(log, *offset).and_then(|r| r.id)));
        }
    }
    for (span, base) in ledger.told.iter().filter(|(span, _)| logs.contains_key(&span.log)) {
        for (delta, id) in (0..).zip(span.ids()) {
            let there = at(&span.log, base.plus(delta)).and_then(|record| record.id);
            if there != Some(id) {
                slips.push(format!("{id} was told to be at {} offset {}, where {there:?} is", span.log, base.plus(delta)));
            }
        }
    }
    let mut copies: BTreeMap<RecordId, u64> = BTreeMap::new();
    logs.values().flatten().filter_map(|record| record.id).for_each(|id| *copies.entry(id).or_default() += 1);
    for (id, found) in copies {
        let sent = ledger.sent.get(&id).map_or(0, |sent| sent.copies);
        if found > sent {
            slips.push(format!("{id} is there {found} times and was sent {sent} times"));
        }
    }
    drop(ledger);
    slips.truncate(10);
    slips.into_iter().for_each(|slip| world.broken(slip));
}

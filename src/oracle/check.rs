//! Judges a history: every rule a log must keep, whatever was killed meanwhile (P).
//!
//! What is promised to whom:
//!
//! | producer | in order | repeats | unknown outcome |
//! |---|---|---|---|
//! | idempotent | every record that is there | never | there once, or not |
//! | sequential (one request in flight, retries) | acknowledged records, by their first appearance | allowed | anything |
//! | pipelined (several in flight, retries, no id) | nothing | allowed | anything |
//!
//! A sequential producer sends a record only after the one before it is settled. Once that one is acknowledged it stands
//! before everything sent later; if its outcome is unknown, a late copy may still arrive behind its successors.
//! Everything else (nothing lost, nothing invented, nothing changed, offsets without gaps) is promised to all.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::history::{Attempt, History, LogName, LogRead, Observed, Outcome, Promise, RecordId};
use super::report::{Findings, Invariant, Report};
use crate::types::Offset;

/// Judges `history`; the report names every broken [`Invariant`].
///
/// Costs about 200 bytes a record beside the history itself.
#[must_use]
pub fn check(history: &History) -> Report {
    let index = Index::of(history);
    let mut findings = Findings::default();
    for log in &history.logs {
        check_offsets(log, &mut findings);
        check_records(log, &index, &mut findings);
        check_order(log, &index, &mut findings);
    }
    for attempt in &history.attempts {
        check_attempt(attempt, &index, &mut findings);
    }
    for read in &history.partial_reads {
        let range = read.from..read.until;
        check_partial_read(&read.reader, &index.slice(&read.log, range), &read.records, &read.log, &mut findings);
    }
    for read in &history.group_reads {
        check_group_read(&read.group, &index, &read.log, &read.records, &mut findings);
    }
    summary(history, &index, findings)
}

/// Where one record was read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Place {
    id: RecordId,
    /// Index into `History::logs`.
    log: usize,
    offset: Offset,
}

struct Index<'a> {
    attempts: HashMap<RecordId, &'a Attempt>,
    logs: BTreeMap<&'a LogName, usize>,
    reads: &'a [LogRead],
    /// Sorted, without repeats: an offset that is read twice is one place.
    places: Vec<Place>,
}

impl<'a> Index<'a> {
    fn of(history: &'a History) -> Index<'a> {
        let mut places: Vec<Place> = Vec::new();
        for (log, read) in history.logs.iter().enumerate() {
            places.extend(read.records.iter().filter_map(|r| r.id.map(|id| Place { id, log, offset: r.offset })));
        }
        places.sort_unstable();
        places.dedup();
        Index {
            attempts: history.attempts.iter().map(|a| (a.id, a)).collect(),
            logs: history.logs.iter().enumerate().map(|(i, read)| (&read.log, i)).collect(),
            reads: &history.logs,
            places,
        }
    }

    /// All places of one record, by log and offset.
    fn places(&self, id: RecordId) -> &[Place] {
        let start = self.places.partition_point(|p| p.id < id);
        let len = self.places[start..].partition_point(|p| p.id == id);
        &self.places[start..start + len]
    }

    fn read_of(&self, log: &LogName) -> Option<(usize, &'a LogRead)> {
        self.logs.get(log).map(|i| (*i, &self.reads[*i]))
    }

    /// What the whole read of `log` has in `range`, by offset, each offset once.
    fn slice(&self, log: &LogName, range: std::ops::Range<Offset>) -> Vec<&'a Observed> {
        let records = self.read_of(log).map(|(_, read)| read.records.as_slice()).unwrap_or_default();
        by_offset(records.iter().filter(|r| range.contains(&r.offset)))
    }
}

fn by_offset<'a>(records: impl Iterator<Item = &'a Observed>) -> Vec<&'a Observed> {
    let mut sorted: Vec<&Observed> = records.collect();
    sorted.sort_by_key(|r| r.offset);
    sorted.dedup_by_key(|r| r.offset);
    sorted
}

/// Offsets alone: each once, none missing, none beyond the ends, in order of reading.
fn check_offsets(read: &LogRead, findings: &mut Findings) {
    let log = &read.log;
    let mut seen = HashSet::with_capacity(read.records.len());
    let mut last = None;
    for record in &read.records {
        let offset = record.offset;
        if !seen.insert(offset) {
            findings.add(Invariant::NoDuplicateOffsets, || format!("{log}: offset {offset} was read twice, now with {}", describe(record)));
        } else if last.is_some_and(|last| offset < last) {
            let last = last.unwrap_or_default();
            findings.add(Invariant::ContiguousOffsets, || format!("{log}: offset {offset} was read after offset {last}"));
        }
        last = Some(offset);
        if offset < read.start || offset >= read.high_watermark {
            let (start, end) = (read.start, read.high_watermark);
            findings.add(Invariant::ContiguousOffsets, || {
                format!("{log}: offset {offset} lies outside of the log, {start} to {end} exclusive")
            });
        }
    }
    check_gaps(read, findings);
}

fn check_gaps(read: &LogRead, findings: &mut Findings) {
    let end = read.high_watermark.max(read.start);
    let mut offsets: Vec<Offset> = read.records.iter().map(|r| r.offset).filter(|o| *o < end).collect();
    // The high watermark closes the list, so that a gap at the end of the log is a gap like any other.
    offsets.push(end);
    offsets.sort_unstable();
    let mut next = read.start;
    for offset in offsets {
        if offset > next {
            let (log, last) = (&read.log, offset.0 - 1);
            findings.add(Invariant::ContiguousOffsets, || {
                format!("{log}: offsets {next} to {last} are missing below the high watermark {end}")
            });
        }
        next = next.max(offset.plus(1));
    }
}

fn describe(record: &Observed) -> String {
    record.id.map_or_else(|| "a record that is none of this run".to_owned(), |id| id.to_string())
}

/// Each record that was read against what was sent.
fn check_records(read: &LogRead, index: &Index<'_>, findings: &mut Findings) {
    let log = &read.log;
    for record in &read.records {
        let offset = record.offset;
        let Some(attempt) = record.id.and_then(|id| index.attempts.get(&id)) else {
            findings.add(Invariant::NoPhantoms, || format!("{log}, offset {offset}: {} was never sent", describe(record)));
            continue;
        };
        if attempt.outcome == Outcome::Failed {
            findings.add(Invariant::NoPhantoms, || format!("{log}, offset {offset}: {} was refused for good, yet it is there", attempt.id));
        }
        for difference in differences(attempt, record, log) {
            findings.add(Invariant::DataIntegrity, || format!("{log}, offset {offset}: {}: {difference}", attempt.id));
        }
    }
}

/// In what way `record`, read from `log`, is not what was sent.
fn differences(attempt: &Attempt, record: &Observed, log: &LogName) -> Vec<String> {
    let (sent, read) = (&attempt.content, &record.content);
    let mut found = Vec::new();
    for (what, sent, read) in [("key", sent.key, read.key), ("value", sent.value, read.value), ("headers", sent.headers, read.headers)] {
        if sent != read {
            found.push(format!("{what} sent as {sent}, read as {read}"));
        }
    }
    if sent.timestamp != read.timestamp {
        found.push(format!("timestamp sent as {}, read as {}", sent.timestamp.0, read.timestamp.0));
    }
    let right_partition = attempt.partition.is_none_or(|p| p == log.partition);
    if attempt.topic != log.topic || !right_partition {
        let partition = attempt.partition.map_or_else(|| "any partition".to_owned(), |p| format!("partition {p}"));
        found.push(format!("sent to {partition} of {}, read from {log}", attempt.topic));
    }
    found
}

/// Order of each producer within one log, by the first appearance of each record.
fn check_order(read: &LogRead, index: &Index<'_>, findings: &mut Findings) {
    let mut newest: HashMap<u32, RecordId> = HashMap::new();
    let mut seen: HashSet<RecordId> = HashSet::with_capacity(read.records.len());
    for record in by_offset(read.records.iter()) {
        let Some(attempt) = record.id.and_then(|id| index.attempts.get(&id)) else { continue };
        let id = attempt.id;
        if !seen.insert(id) {
            continue;
        }
        let before = *newest.entry(id.producer).and_modify(|n| *n = (*n).max(id)).or_insert(id);
        if before > id && order_promised(attempt) {
            let (log, offset) = (&read.log, record.offset);
            findings.add(Invariant::ProducerOrder, || format!("{log}, offset {offset}: {id} stands behind {before}"));
        }
    }
}

fn order_promised(attempt: &Attempt) -> bool {
    match attempt.promise {
        Promise::Idempotent => true,
        Promise::Sequential => matches!(attempt.outcome, Outcome::Acked { .. }),
        Promise::Pipelined => false,
    }
}

/// Each record that was sent against what was read.
fn check_attempt(attempt: &Attempt, index: &Index<'_>, findings: &mut Findings) {
    let places = index.places(attempt.id);
    if attempt.promise == Promise::Idempotent && places.len() > 1 {
        findings.add(Invariant::NoDuplicateRecords, || format!("{} is at {}", attempt.id, list(places, index)));
    }
    match attempt.outcome {
        Outcome::Acked { partition, offset } => {
            let log = LogName { topic: attempt.topic.clone(), partition };
            check_acknowledged(attempt.id, &log, offset, index, findings);
            if let Some(asked) = attempt.partition.filter(|p| *p != partition) {
                findings.add(Invariant::DataIntegrity, || format!("{}: sent to partition {asked}, acknowledged for {log}", attempt.id));
            }
        }
        Outcome::Unknown | Outcome::Failed => {}
    }
}

fn check_acknowledged(id: RecordId, log: &LogName, acked: Option<Offset>, index: &Index<'_>, findings: &mut Findings) {
    let Some((number, read)) = index.read_of(log) else {
        findings.add(Invariant::Completeness, || format!("{id} was acknowledged for {log}, which was not read"));
        return;
    };
    // What retention took cannot be asked for; without an offset nobody knows whether it was taken.
    if acked.map_or(read.start > Offset(0), |offset| offset < read.start) {
        return;
    }
    let places = index.places(id);
    let at = acked.map_or_else(String::new, |offset| format!(", offset {offset}"));
    if !places.iter().any(|p| p.log == number) {
        let elsewhere = if places.is_empty() { String::new() } else { format!("; it is at {}", list(places, index)) };
        findings.add(Invariant::Completeness, || format!("{id} was acknowledged for {log}{at}, and is not there{elsewhere}"));
    } else if acked.is_some_and(|offset| !places.iter().any(|p| p.log == number && p.offset == offset)) {
        findings.add(Invariant::AcknowledgedOffsets, || format!("{id} was acknowledged for {log}{at}, but is at {}", list(places, index)));
    }
}

fn list(places: &[Place], index: &Index<'_>) -> String {
    let named: Vec<String> = places.iter().map(|p| format!("{} offset {}", index.reads[p.log].log, p.offset)).collect();
    named.join(", ")
}

fn check_partial_read(reader: &str, expected: &[&Observed], read: &[Observed], log: &LogName, findings: &mut Findings) {
    if let Some((expected, got)) = expected.iter().zip(read).find(|(expected, got)| **expected != *got) {
        findings.add(Invariant::SameLogFromTheMiddle, || {
            format!(
                "{reader} got offset {} with {} from {log}, instead of offset {} with {}",
                got.offset,
                describe(got),
                expected.offset,
                describe(expected)
            )
        });
    } else if expected.len() != read.len() {
        findings.add(Invariant::SameLogFromTheMiddle, || {
            format!("{reader} got {} records from {log}, instead of {}", read.len(), expected.len())
        });
    }
}

fn check_group_read(group: &str, index: &Index<'_>, log: &LogName, read: &[Observed], findings: &mut Findings) {
    let mut missing: BTreeMap<Offset, &Observed> =
        index.slice(log, Offset(0)..Offset(i64::MAX)).into_iter().map(|r| (r.offset, r)).collect();
    let whole = missing.clone();
    for record in read {
        missing.remove(&record.offset);
        if whole.get(&record.offset) != Some(&record) {
            let offset = record.offset;
            findings
                .add(Invariant::GroupCoverage, || format!("{group}: {} at {log}, offset {offset}, is not in the log", describe(record)));
        }
    }
    for (offset, record) in missing {
        findings.add(Invariant::GroupCoverage, || format!("{group}: nobody got {} at {log}, offset {offset}", describe(record)));
    }
}

fn summary(history: &History, index: &Index<'_>, findings: Findings) -> Report {
    let mut report = Report { partitions: history.logs.len(), violations: findings.into_violations(), ..Report::default() };
    let mut producers = HashSet::new();
    for attempt in &history.attempts {
        producers.insert(attempt.id.producer);
        let places = index.places(attempt.id).len() as u64;
        report.verified += places.min(1);
        report.repeats += places.saturating_sub(1);
        match attempt.outcome {
            Outcome::Acked { .. } => {}
            Outcome::Unknown if places > 0 => report.unknown_found += 1,
            Outcome::Unknown => report.unknown_absent += 1,
            Outcome::Failed => report.failed += 1,
        }
    }
    report.producers = producers.len();
    report
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;

//! What the programs of one client told, and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// What a client's producer promises by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// It repeats what may be lost.
    AtLeastOnce,
    /// It repeats so that the broker knows it again.
    Idempotent,
}

/// A value at its partition and offset.
pub type Record = (i32, i64, String);

/// What a producer told so far.
#[derive(Debug, Default, Clone)]
pub struct Sent {
    pub acked: Vec<Record>,
    /// Value and reason.
    pub failed: Vec<(String, String)>,
    last: Option<Instant>,
    /// The longest time without an acknowledgement.
    pub longest_pause: Duration,
}

impl Sent {
    /// Takes `acked PARTITION OFFSET VALUE` or `failed VALUE: reason`.
    pub fn note(&mut self, line: &str) {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match (words.as_slice(), line.strip_prefix("failed ").and_then(|rest| rest.split_once(": "))) {
            (["acked", partition, offset, value], _) => {
                let place = (partition.parse().expect("a partition"), offset.parse().expect("an offset"));
                self.acked.push((place.0, place.1, (*value).to_owned()));
                let before = self.last.replace(Instant::now());
                self.longest_pause = self.longest_pause.max(before.map(|before| before.elapsed()).unwrap_or_default());
            }
            (_, Some((value, reason))) => self.failed.push((value.to_owned(), reason.to_owned())),
            _ => {}
        }
    }
}

/// What the producer of a topic told, and what all its readers did.
#[derive(Debug)]
pub struct Story {
    pub promise: Promise,
    pub sent: Sent,
    pub read: Vec<Record>,
}

impl Story {
    /// What was acknowledged and not yet read, whatever is there instead.
    pub fn unread(&self) -> Vec<&Record> {
        let read: BTreeSet<(i32, i64)> = self.read.iter().map(|(partition, offset, _)| (*partition, *offset)).collect();
        self.sent.acked.iter().filter(|(partition, offset, _)| !read.contains(&(*partition, *offset))).collect()
    }

    /// Values that are at more than one place.
    pub fn repeats(&self) -> usize {
        let places: BTreeSet<(&str, i32, i64)> =
            self.read.iter().map(|(partition, offset, value)| (value.as_str(), *partition, *offset)).collect();
        let values: BTreeSet<&str> = places.iter().map(|(value, _, _)| *value).collect();
        places.len() - values.len()
    }

    pub fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self.unread().iter().map(|record| format!("acknowledged and never read: {record:?}")).collect();
        faults.extend(self.disagreements());
        faults.extend(self.untold());
        if self.promise == Promise::Idempotent && self.repeats() > 0 {
            faults.push(format!("{} records of an idempotent producer were repeated", self.repeats()));
        }
        faults
    }

    /// An offset holds one value, for every reader, each time, and the producer.
    fn disagreements(&self) -> Vec<String> {
        let mut held: BTreeMap<(i32, i64), &str> = BTreeMap::new();
        let mut faults = Vec::new();
        for (partition, offset, value) in self.read.iter().chain(&self.sent.acked) {
            let first = *held.entry((*partition, *offset)).or_insert(value);
            if first != value {
                faults.push(format!("offset {offset} of partition {partition} holds {first} and {value}"));
            }
        }
        faults
    }

    /// Values are counted from zero: each must have come to one end, and the last, sent after all faults, to a good one.
    fn untold(&self) -> Vec<String> {
        let acked = self.sent.acked.iter().map(|(_, _, value)| value);
        let mut told: Vec<u64> =
            acked.chain(self.sent.failed.iter().map(|(value, _)| value)).filter_map(|value| value.parse().ok()).collect();
        told.sort_unstable();
        let mut faults = Vec::new();
        if let Some((expected, told)) = (0..).zip(&told).find(|(expected, told)| expected != *told) {
            faults.push(format!("the producer told of {told} where {expected} was due"));
        }
        if !self.sent.acked.iter().any(|(_, _, value)| told.last().is_some_and(|last| *value == last.to_string())) {
            faults.push("the last record was not acknowledged".to_owned());
        }
        faults
    }
}

#[test]
fn a_story_is_judged() {
    let record = |partition, offset, value: &str| (partition, offset, value.to_owned());
    let good = || {
        let mut sent = Sent::default();
        for line in ["acked 0 0 0", "failed 1: too late", "acked 1 0 2"] {
            sent.note(line);
        }
        Story { promise: Promise::Idempotent, sent, read: vec![record(0, 0, "0"), record(1, 0, "2"), record(0, 0, "0")] }
    };
    assert_eq!(good().faults(), Vec::<String>::new());
    let spoilt = |spoil: fn(&mut Story)| {
        let mut story = good();
        spoil(&mut story);
        story.faults()
    };
    assert_eq!(spoilt(|story| story.read.retain(|(partition, _, _)| *partition == 0)), ["acknowledged and never read: (1, 0, \"2\")"]);
    assert_eq!(spoilt(|story| story.read[2].2 = "7".to_owned()), ["offset 0 of partition 0 holds 0 and 7"]);
    assert_eq!(spoilt(|story| story.read[1].2 = "7".to_owned()), ["offset 0 of partition 1 holds 7 and 2"]);
    assert_eq!(spoilt(|story| story.read.push((0, 1, "2".to_owned()))), ["1 records of an idempotent producer were repeated"]);
    assert_eq!(spoilt(|story| story.sent.failed.clear()), ["the producer told of 2 where 1 was due"]);
    assert_eq!(spoilt(|story| story.sent.note("failed 3: fenced")), ["the last record was not acknowledged"]);
}

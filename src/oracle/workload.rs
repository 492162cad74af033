//! Which records are sent: a pure function of the seed, the producer and the sequence number (P).
//!
//! Records are made to be awkward: null and empty keys and values, headers that repeat, have no value or are missing,
//! values half random and half alike, sizes around a mean. Each says who it is, in its value or in a header.

use std::num::NonZeroU32;

use super::history::{Content, Fingerprint, RecordId};
use crate::types::{PartitionIndex, Timestamp, TopicName};

/// The header that names a record whose value cannot.
pub const ID_HEADER: &str = "oracle-id";

/// Tells the records of one run from those of any other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RunId(pub u64);

/// A header's name and value; the value may be null.
pub type Header = (String, Option<Vec<u8>>);

/// One record, ready to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub id: RecordId,
    pub topic: TopicName,
    /// `None` leaves the choice to the client's partitioner.
    pub partition: Option<PartitionIndex>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<Header>,
    pub timestamp: Timestamp,
}

impl Record {
    #[must_use]
    pub fn content(&self) -> Content {
        Content {
            key: Fingerprint::of(self.key.as_deref()),
            value: Fingerprint::of(self.value.as_deref()),
            headers: Fingerprint::of_headers(self.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()))),
            timestamp: self.timestamp,
        }
    }
}

/// A sequence of numbers that only depends on its seed: `SplitMix64` (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    #[must_use]
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    pub fn next_number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `bound`, exclusive; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_number().checked_rem(bound).unwrap_or(0)
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// Random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next_number().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

/// What one run sends.
#[derive(Clone, Debug)]
pub struct Workload {
    pub run: RunId,
    pub seed: u64,
    /// Never empty.
    pub topics: Vec<TopicName>,
    /// Of each topic.
    pub partitions: NonZeroU32,
    /// Mean length of a value, bytes.
    pub record_size: usize,
    /// The timestamp of the first records.
    pub start: Timestamp,
}

impl Workload {
    /// The record `id` of this run: always the same one.
    #[must_use]
    pub fn record(&self, id: RecordId) -> Record {
        let mut chance = Chance::new(self.seed ^ Chance::new(u64::from(id.producer)).next_number());
        let mut chance = Chance::new(chance.next_number() ^ id.sequence.wrapping_mul(0xd6e8_feb8_6659_fd93));
        let topic = self.topics[chance.below(self.topics.len() as u64) as usize].clone();
        let partition = chance.below(u64::from(self.partitions.get()));
        let partition = (!chance.once_in(8)).then(|| PartitionIndex(i32::try_from(partition).unwrap_or(0)));
        let value = self.value(id, &mut chance);
        let in_header = value.as_ref().is_none_or(Vec::is_empty) || chance.once_in(4);
        Record {
            id,
            topic,
            partition,
            key: key(id, &mut chance),
            headers: self.headers(id, in_header, &mut chance),
            timestamp: Timestamp(self.start.0 + id.sequence as i64 + chance.below(1000) as i64),
            value,
        }
    }

    fn value(&self, id: RecordId, chance: &mut Chance) -> Option<Vec<u8>> {
        match chance.below(64) {
            0 => return None,
            1 => return Some(Vec::new()),
            2.. => {}
        }
        let mut value = identity(self.run, id).into_bytes();
        let len = self.record_size / 2 + chance.below(self.record_size as u64 + 1) as usize;
        let rest = len.saturating_sub(value.len());
        value.extend(chance.bytes(rest / 2));
        value.resize(value.len() + rest - rest / 2, b'.');
        Some(value)
    }

    fn headers(&self, id: RecordId, with_identity: bool, chance: &mut Chance) -> Vec<Header> {
        let mut headers: Vec<Header> = Vec::new();
        for _ in 0..chance.below(4) {
            let name = format!("h{}", chance.below(2));
            let len = chance.below(20) as usize;
            headers.push((name, (!chance.once_in(4)).then(|| chance.bytes(len))));
        }
        if with_identity {
            let at = chance.below(headers.len() as u64 + 1) as usize;
            headers.insert(at, (ID_HEADER.to_owned(), Some(identity(self.run, id).into_bytes())));
        }
        headers
    }
}

fn key(id: RecordId, chance: &mut Chance) -> Option<Vec<u8>> {
    match chance.below(8) {
        0 | 1 => None,
        2 => Some(Vec::new()),
        3 => Some(chance.bytes(16)),
        4.. => Some(format!("key-{}-{}", id.producer, chance.below(8)).into_bytes()),
    }
}

const MARK: &str = "yaks-oracle/";

/// How a record names itself: `yaks-oracle/<run, 16 hex digits>/<producer>/<sequence>;`.
fn identity(run: RunId, id: RecordId) -> String {
    format!("{MARK}{:016x}/{}/{};", run.0, id.producer, id.sequence)
}

/// Who a record says it is, by its value or else by its headers; `None` if it does not belong to `run`.
#[must_use]
pub fn identify<'a>(run: RunId, value: Option<&[u8]>, headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>) -> Option<RecordId> {
    let in_headers = || headers.into_iter().filter(|(name, _)| *name == ID_HEADER).find_map(|(_, value)| parse(run, value?));
    value.and_then(|value| parse(run, value)).or_else(in_headers)
}

fn parse(run: RunId, bytes: &[u8]) -> Option<RecordId> {
    let end = bytes.iter().take(80).position(|b| *b == b';')?;
    let text = std::str::from_utf8(&bytes[..end]).ok()?.strip_prefix(MARK)?;
    let mut parts = text.split('/');
    let named = u64::from_str_radix(parts.next()?, 16).ok()?;
    let id = RecordId { producer: parts.next()?.parse().ok()?, sequence: parts.next()?.parse().ok()? };
    (named == run.0 && parts.next().is_none()).then_some(id)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn workload(seed: u64) -> Workload {
        Workload {
            run: RunId(0xabc),
            seed,
            topics: ["a", "b"].map(|n| TopicName::parse(n).unwrap()).to_vec(),
            partitions: NonZeroU32::new(3).unwrap(),
            record_size: 200,
            start: Timestamp(1_700_000_000_000),
        }
    }

    fn says(record: &Record, run: RunId) -> Option<RecordId> {
        identify(run, record.value.as_deref(), record.headers.iter().map(|(n, v)| (n.as_str(), v.as_deref())))
    }

    proptest! {
        #[test]
        fn the_same_seed_gives_the_same_record_and_it_says_who_it_is(seed: u64, producer: u32, sequence in 0..u64::MAX / 2) {
            let id = RecordId { producer, sequence };
            let record = workload(seed).record(id);
            prop_assert_eq!(&record, &workload(seed).record(id));
            prop_assert_eq!(says(&record, RunId(0xabc)), Some(id));
            prop_assert_eq!(says(&record, RunId(0xabd)), None);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(RunId(1), &bytes);
            let _ = parse(RunId(1), &[MARK.as_bytes(), &bytes[..]].concat());
        }
    }

    #[test]
    fn a_thousand_records_show_every_awkward_shape() {
        let records: Vec<Record> = (0..1000).map(|sequence| workload(1).record(RecordId { producer: 0, sequence })).collect();
        let shapes: [fn(&Record) -> bool; 8] = [
            |r| r.key.is_none(),
            |r| r.key.as_ref().is_some_and(Vec::is_empty),
            |r| r.value.is_none(),
            |r| r.value.as_ref().is_some_and(Vec::is_empty),
            |r| r.headers.is_empty(),
            |r| r.headers.iter().any(|(_, v)| v.is_none()),
            |r| r.headers.len() > 1 && r.headers[0].0 == r.headers[1].0,
            |r| r.partition.is_none(),
        ];
        for (i, shape) in shapes.iter().enumerate() {
            assert!(records.iter().any(shape), "no record has shape {i}");
        }
        let logs: HashSet<_> = records.iter().filter_map(|r| Some((r.topic.clone(), r.partition?))).collect();
        assert_eq!(logs.len(), 6);
        let mean = records.iter().filter_map(|r| r.value.as_ref()).map(Vec::len).sum::<usize>() / records.len();
        assert!((180..220).contains(&mean), "{mean}");
    }
}

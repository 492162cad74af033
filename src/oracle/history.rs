//! The words of a history: what was sent, what became of it, and what was read (P).
//!
//! Plain values without a client behind them, so that a run against a real broker and a simulated one are told in the
//! same words and judged by the same [`check`](crate::oracle::check::check).

use std::fmt;

use crate::types::{Offset, PartitionIndex, Timestamp, TopicName};

/// Which record: its producer's number, and its place among the records of that producer, from 0 and without gaps.
///
/// One producer hands its records to its client in the order of `sequence`; nothing is said between producers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RecordId {
    pub producer: u32,
    pub sequence: u64,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} of producer {}", self.sequence, self.producer)
    }
}

/// What the producer was configured to get from the broker; the checks hold each record to its own promise.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Promise {
    /// `enable.idempotence`: in order, and each record at most once, whatever was retried.
    Idempotent,
    /// Not idempotent, one request in flight, retries: acknowledged records in order, each one perhaps repeated.
    Sequential,
    /// Not idempotent, several requests in flight, retries: no order, each record perhaps repeated.
    Pipelined,
}

/// A hash of bytes that were sent or read: enough to tell that they differ, without keeping them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// Of a key or a value. No bytes (null) and zero bytes differ, as they do in Kafka.
    #[must_use]
    pub fn of(bytes: Option<&[u8]>) -> Fingerprint {
        let mut hash = Hash::default();
        hash.field(bytes);
        Fingerprint(hash.0)
    }

    /// Of headers: names, values (null or not), their order and number.
    pub fn of_headers<'a>(headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>) -> Fingerprint {
        let mut hash = Hash::default();
        for (name, value) in headers {
            hash.field(Some(name.as_bytes()));
            hash.field(value);
        }
        Fingerprint(hash.0)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:016x}", self.0)
    }
}

/// FNV-1a over fields that carry their length, so that neighbours cannot trade bytes.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Hash {
        Hash(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn field(&mut self, bytes: Option<&[u8]>) {
        let length = bytes.map_or(u64::MAX, |b| b.len() as u64);
        for byte in length.to_le_bytes().iter().chain(bytes.unwrap_or_default()) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// What a record holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Content {
    pub key: Fingerprint,
    pub value: Fingerprint,
    pub headers: Fingerprint,
    /// As the producer set it (Kafka's `CreateTime`).
    pub timestamp: Timestamp,
}

/// What the producer was told in the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Durable. The offset is missing where the broker named none, as for a repeated batch it no longer remembers.
    Acked { partition: PartitionIndex, offset: Option<Offset> },
    /// Perhaps there, perhaps not: a timeout, a broken connection, acks=0, or the run ended before the answer.
    Unknown,
    /// Refused for good and never sent again: must not be there.
    Failed,
}

/// One record that was given to a client to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attempt {
    pub id: RecordId,
    pub promise: Promise,
    pub topic: TopicName,
    /// The partition asked for; `None` where the client's partitioner chose.
    pub partition: Option<PartitionIndex>,
    pub content: Content,
    pub outcome: Outcome,
}

/// One record as a consumer saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Observed {
    pub offset: Offset,
    /// What the record says of itself; `None` if it does not look like one of this run.
    pub id: Option<RecordId>,
    pub content: Content,
}

/// Name of one log.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct LogName {
    pub topic: TopicName,
    pub partition: PartitionIndex,
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// One whole log, read after all producers were done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogRead {
    pub log: LogName,
    /// The log start offset as the broker tells it.
    pub start: Offset,
    /// The high watermark as the broker tells it; reading went on to it, however few records were expected.
    pub high_watermark: Offset,
    /// In the order in which the consumer got them.
    pub records: Vec<Observed>,
}

/// A second, independent read of a piece of one log: from `from` until `until`, exclusive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartialRead {
    /// Who read, for the message: "consumer 3 from the middle".
    pub reader: String,
    pub log: LogName,
    pub from: Offset,
    pub until: Offset,
    pub records: Vec<Observed>,
}

/// All that the members of one consumer group got of one log, in any order, repeats allowed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupRead {
    pub group: String,
    pub log: LogName,
    pub records: Vec<Observed>,
}

/// All that is judged together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct History {
    pub attempts: Vec<Attempt>,
    /// Every partition of every topic of the run, once.
    pub logs: Vec<LogRead>,
    pub partial_reads: Vec<PartialRead>,
    pub group_reads: Vec<GroupRead>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_differ() {
        assert_ne!(Fingerprint::of(None), Fingerprint::of(Some(b"")));
        assert_ne!(Fingerprint::of_headers([("a", None)]), Fingerprint::of_headers([("a", Some(&b""[..]))]));
    }

    #[test]
    fn headers_keep_their_borders_and_their_order() {
        let (ab_c, a_bc) = ([("ab", Some(&b"c"[..]))], [("a", Some(&b"bc"[..]))]);
        assert_ne!(Fingerprint::of_headers(ab_c), Fingerprint::of_headers(a_bc));
        assert_ne!(Fingerprint::of_headers([("a", None), ("b", None)]), Fingerprint::of_headers([("b", None), ("a", None)]));
        assert_ne!(Fingerprint::of_headers([]), Fingerprint::of_headers([("", None)]));
    }
}

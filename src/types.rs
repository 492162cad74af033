//! The words every room shares: newtypes, so that two numbers that mean different things cannot be mixed up.
//!
//! Pure: no clock, no randomness, no I/O. Ids are made in `clock`, parsed and printed here.

mod racks;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

pub use racks::RackCidrs;

/// A topic's permanent identity (KIP-516). Names can be reused after a delete; ids never are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct TopicId(pub [u8; 16]);

/// The identity of one object in the store: a UUID v7, so that objects sort by age.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ObjectId(pub [u8; 16]);

fn write_uuid(f: &mut fmt::Formatter<'_>, bytes: &[u8; 16]) -> fmt::Result {
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uuid(f, &self.0)
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uuid(f, &self.0)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uuid(f, &self.0)
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uuid(f, &self.0)
    }
}

impl TopicId {
    /// Kafka's "no topic id": sixteen zero bytes.
    pub const ZERO: TopicId = TopicId([0; 16]);
}

/// Where every object of record data lives, below the bucket or the data directory.
pub const DATA_PREFIX: &str = "data/";

impl ObjectId {
    /// The object's key in the store: `data/<2 hex of a hash>/<uuid>`.
    ///
    /// The hash spreads objects made at the same time over 256 prefixes, because S3 scales by prefix and the head of
    /// a UUID v7 is a clock.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{DATA_PREFIX}{:02x}/{self}", self.shard())
    }

    /// Which of the 256 prefixes below `data/` the object lives under.
    #[must_use]
    pub fn shard(&self) -> u8 {
        fnv1a(&self.0) as u8
    }

    /// This id with the name of the agent that makes the object in its last four bytes, which are random otherwise: whoever wants the bytes of a young object
    /// can ask the agent that still has them.
    #[must_use]
    pub fn made_by(mut self, node: NodeId) -> ObjectId {
        self.0[12..].copy_from_slice(&node.0.to_be_bytes());
        self
    }

    /// The agent that made the object, if it was made with [`ObjectId::made_by`]; a hint, no proof.
    #[must_use]
    pub fn maker(&self) -> NodeId {
        NodeId(i32::from_be_bytes([self.0[12], self.0[13], self.0[14], self.0[15]]))
    }

    /// When the object was made, by its maker's clock: the first 48 bits of a UUID v7, milliseconds since 1970.
    #[must_use]
    pub fn made_at(&self) -> u64 {
        self.0[..6].iter().fold(0, |millis, byte| millis << 8 | u64::from(*byte))
    }

    /// Reads an id back out of a key made by [`ObjectId::key`]; `None` for any other string.
    #[must_use]
    pub fn from_key(key: &str) -> Option<ObjectId> {
        let name = key.rsplit('/').next()?;
        let digits: Vec<u8> = name.bytes().filter(|b| *b != b'-').collect();
        if digits.len() != 32 {
            return None;
        }
        let mut id = [0u8; 16];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        (ObjectId(id).key() == key).then_some(ObjectId(id))
    }
}

/// FNV-1a, 64 bits: a small, stable hash for spreading keys. Not for untrusted input to hash maps.
#[must_use]
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The index of a partition within its topic, from 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct PartitionIndex(pub i32);

impl fmt::Display for PartitionIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One log: a partition of a topic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TopicPartition {
    pub topic: TopicId,
    pub partition: PartitionIndex,
}

impl TopicPartition {
    #[must_use]
    pub fn new(topic: TopicId, partition: i32) -> Self {
        TopicPartition { topic, partition: PartitionIndex(partition) }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// The position of a record in its partition, from 0, contiguous.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Offset(pub i64);

impl Offset {
    /// The offset `count` records later.
    #[must_use]
    pub fn plus(self, count: u32) -> Offset {
        Offset(self.0 + i64::from(count))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Milliseconds since the Unix epoch, as Kafka counts time; -1 where a record has none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Kafka's "no timestamp".
    pub const NONE: Timestamp = Timestamp(-1);

    #[must_use]
    pub fn plus(self, duration: std::time::Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// The identity a broker gave to an idempotent or transactional producer (KIP-98).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ProducerId(pub i64);

/// Counts the lives of one producer id; a higher epoch fences the lower ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ProducerEpoch(pub i16);

/// A record's number within its producer and partition: 0 to 2^31-1, then 0 again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Sequence(pub i32);

impl Sequence {
    /// The sequence `count` records later, wrapping from 2^31-1 to 0 (Kafka's `DefaultRecordBatch.incrementSequence`).
    #[must_use]
    pub fn plus(self, count: u32) -> Sequence {
        Sequence(((i64::from(self.0) + i64::from(count)) & 0x7fff_ffff) as i32)
    }

    /// How many records `self` is ahead of `other` on the ring of 2^31 numbers: 0 to 2^31-1.
    #[must_use]
    pub fn distance_from(self, other: Sequence) -> u32 {
        (i64::from(self.0) - i64::from(other.0)).rem_euclid(1 << 31) as u32
    }
}

/// The identity of one broker in Kafka's metadata.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeId(pub i32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A legal topic name: 1 to 249 of `[a-zA-Z0-9._-]`, not `.` or `..` (Kafka's `Topic.validate`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(Arc<str>);

/// Kafka's limit on the length of a topic name, in bytes.
pub const TOPIC_NAME_MAX: usize = 249;

impl TopicName {
    /// # Errors
    /// What is wrong with `name`, in words for the client.
    pub fn parse(name: &str) -> Result<TopicName, String> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if name.is_empty() {
            return Err("the topic name is empty".to_owned());
        }
        if name == "." || name == ".." {
            return Err("the topic name cannot be \".\" or \"..\"".to_owned());
        }
        if name.len() > TOPIC_NAME_MAX {
            return Err(format!("the topic name is {} bytes long; at most {TOPIC_NAME_MAX} are allowed", name.len()));
        }
        if !name.bytes().all(legal) {
            return Err("a topic name holds only ASCII letters, digits, '.', '_' and '-'".to_owned());
        }
        Ok(TopicName(name.into()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A consumer group's name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct GroupId(pub Arc<str>);

/// A member's name within its group, made by the coordinator.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct MemberId(pub Arc<str>);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A range of bytes of one object.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ByteRange {
    pub start: u64,
    pub len: u64,
}

impl ByteRange {
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start + self.len
    }

    #[must_use]
    pub fn as_range(&self) -> Range<u64> {
        self.start..self.end()
    }
}

/// Who produced a batch, if its producer is idempotent or transactional.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerStamp {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
    pub base_sequence: Sequence,
    pub transactional: bool,
}

/// What is known of one record batch without opening it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchSummary {
    /// Length in bytes, with the 12 bytes of base offset and length in front.
    pub len: u32,
    /// Records in the batch; for batches straight from a producer also the number of offsets it takes.
    pub record_count: u32,
    pub base_timestamp: Timestamp,
    pub max_timestamp: Timestamp,
    pub producer: Option<ProducerStamp>,
}

impl BatchSummary {
    /// The sequence of the last record, for a batch of an idempotent producer.
    #[must_use]
    pub fn last_sequence(&self) -> Option<Sequence> {
        self.producer.map(|p| p.base_sequence.plus(self.record_count - 1))
    }
}

/// The batches of one partition that lie next to each other in one object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    pub log: TopicPartition,
    /// Where the first batch starts in the object.
    pub start: u64,
    /// In the order in which they were received, without gaps between them; never empty.
    pub batches: Vec<BatchSummary>,
}

impl Run {
    /// Bytes of all batches.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.batches.iter().map(|b| u64::from(b.len)).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }
}

/// A piece of an object that holds consecutive offsets of one partition: the unit in which a fetch finds data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    pub log: TopicPartition,
    pub base_offset: Offset,
    /// The offset of the last record, inclusive.
    pub last_offset: Offset,
    pub object: ObjectId,
    pub range: ByteRange,
    pub record_count: u32,
    /// The largest timestamp in this segment.
    pub max_timestamp: Timestamp,
    /// The largest timestamp in this segment and every earlier one of the partition: it never falls, so a look-up by
    /// time can search by halves.
    pub max_timestamp_so_far: Timestamp,
    /// 0: as received, base offsets inside are meaningless. 1: compacted, offsets written into the batches.
    pub level: u8,
}

/// The ends of one partition's log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Head {
    /// The first offset that can be read.
    pub log_start: Offset,
    /// The offset the next record will get. All records below it are durable.
    pub high_watermark: Offset,
    /// The offset below which no transaction is open (KIP-98); equal to the high watermark without transactions.
    pub last_stable: Offset,
    /// The largest timestamp ever appended.
    pub max_timestamp: Timestamp,
    /// Bytes ever appended.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_from_the_largest_to_zero() {
        assert_eq!(Sequence(i32::MAX).plus(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).plus(3), Sequence(1));
        assert_eq!(Sequence(1).distance_from(Sequence(i32::MAX)), 2);
        assert_eq!(Sequence(5).distance_from(Sequence(5)), 0);
    }

    #[test]
    fn object_keys_are_read_back_and_nothing_else_is() {
        let id = ObjectId(*b"0123456789abcdef");
        assert_eq!(ObjectId::from_key(&id.key()), Some(id));
        assert_eq!(ObjectId::from_key("data/00/not-an-id"), None);
        assert_eq!(ObjectId::from_key("../etc/passwd"), None);
    }

    #[test]
    fn an_object_names_its_maker_and_its_time() {
        let id = ObjectId(*b"\0\0\0\0\x01\x02\x70\0\x80\0\0\0\xff\xff\xff\xff").made_by(NodeId(258));
        assert_eq!((id.maker(), id.made_at()), (NodeId(258), 258));
        assert_eq!(id.0[..12], *b"\0\0\0\0\x01\x02\x70\0\x80\0\0\0");
    }

    #[test]
    fn topic_names_follow_kafka() {
        for good in ["a", "orders.v1", "_x-9", &"n".repeat(249)] {
            assert!(TopicName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "ä", "a/b", &"n".repeat(250)] {
            assert!(TopicName::parse(bad).is_err(), "{bad}");
        }
    }
}

//! The answer to Fetch, written by hand: records are spliced in as they are, where the crate's encoder would copy them.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;

use super::codec::put_answer_header;
use super::frame::RequestHeader;
use super::rope::{Rope, RopeBuilder};
use super::wire::{put_len, put_str};
use crate::types::{NodeId, Offset, ProducerId, TopicId};

/// The answer to one Fetch. Fetch sessions (KIP-227) are always declined, so it has no session id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchAnswer {
    /// From version 7 on.
    pub error_code: i16,
    pub topics: Vec<FetchedTopic>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedTopic {
    /// Sent up to version 12.
    pub name: StrBytes,
    /// Sent from version 13 on.
    pub id: TopicId,
    pub partitions: Vec<FetchedPartition>,
}

/// A transaction of which records in the answer are to be skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aborted {
    pub producer: ProducerId,
    pub first_offset: Offset,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedPartition {
    pub index: i32,
    pub error_code: i16,
    pub high_watermark: Offset,
    pub last_stable: Offset,
    /// Sent from version 5 on.
    pub log_start: Offset,
    /// `None` (null) for readers that want uncommitted records too.
    pub aborted: Option<Vec<Aborted>>,
    /// Where the client had better read (KIP-392), from version 11 on; there are no records then.
    pub preferred: Option<NodeId>,
    /// Whole batches, in pieces. Never null on the wire: some clients fail on that.
    pub records: Vec<Bytes>,
}

/// What one partition takes beside its records, at most; for sizing the buffer.
const PARTITION_BYTES: usize = 64;

impl FetchAnswer {
    /// The frame, in the version of the request (4 to 18).
    #[must_use]
    pub fn encode(&self, header: &RequestHeader) -> Rope {
        let form = Form { version: header.version, flexible: header.api.is_flexible(header.version) };
        let mut rope = RopeBuilder::with_capacity(self.head_bytes());
        put_answer_header(rope.out(), header, header.version);
        rope.out().put_i32(0); // not throttled
        if form.version >= 7 {
            rope.out().put_i16(self.error_code);
            rope.out().put_i32(0); // no session
        }
        put_len(rope.out(), self.topics.len(), form.flexible);
        for topic in &self.topics {
            form.topic(&mut rope, topic);
        }
        form.end(rope.out());
        rope.finish()
    }

    fn head_bytes(&self) -> usize {
        self.topics.iter().map(|t| PARTITION_BYTES * (t.partitions.len() + 1) + t.name.len()).sum::<usize>() + PARTITION_BYTES
    }
}

/// The form of a version.
#[derive(Clone, Copy)]
struct Form {
    version: i16,
    flexible: bool,
}

impl Form {
    fn topic(self, rope: &mut RopeBuilder, topic: &FetchedTopic) {
        if self.version >= 13 {
            rope.out().put_slice(&topic.id.0);
        } else {
            put_str(rope.out(), &topic.name, self.flexible);
        }
        put_len(rope.out(), topic.partitions.len(), self.flexible);
        for partition in &topic.partitions {
            self.partition(rope, partition);
        }
        self.end(rope.out());
    }

    fn partition(self, rope: &mut RopeBuilder, partition: &FetchedPartition) {
        let out = rope.out();
        out.put_i32(partition.index);
        out.put_i16(partition.error_code);
        out.put_i64(partition.high_watermark.0);
        out.put_i64(partition.last_stable.0);
        if self.version >= 5 {
            out.put_i64(partition.log_start.0);
        }
        self.aborted(out, partition.aborted.as_deref());
        if self.version >= 11 {
            out.put_i32(partition.preferred.map_or(-1, |node| node.0));
        }
        put_len(out, partition.records.iter().map(Bytes::len).sum(), self.flexible);
        for piece in &partition.records {
            rope.splice(piece.clone());
        }
        self.end(rope.out());
    }

    fn aborted(self, out: &mut BytesMut, aborted: Option<&[Aborted]>) {
        let Some(aborted) = aborted else {
            return if self.flexible { out.put_u8(0) } else { out.put_i32(-1) };
        };
        put_len(out, aborted.len(), self.flexible);
        for transaction in aborted {
            out.put_i64(transaction.producer.0);
            out.put_i64(transaction.first_offset.0);
            self.end(out);
        }
    }

    /// Ends a structure: no tagged fields.
    fn end(self, out: &mut BytesMut) {
        if self.flexible {
            out.put_u8(0);
        }
    }
}

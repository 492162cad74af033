//! Objects: runs of batches, then an index that explains them, then a trailer that finds the index.
//!
//! ```text
//! run bytes …  | index | crc32c of index u32 | length of index u32 | magic 8 bytes
//! ```
//! Index, version 1 (numbers are varints unless noted): `version u8, runs`, for each run `topic id 16 bytes, partition, start,
//! batches`, for each batch `length, records, base timestamp (signed), max minus base timestamp (signed), flags u8` and, with
//! flag 1, `producer id, epoch, base sequence`; flag 2: transactional. docs/OBJECT_FORMAT.md is normative.

use bytes::Bytes;

use super::batch::HEADER_LEN;
use super::varint;
use crate::types::{
    BatchSummary, PartitionIndex, ProducerEpoch, ProducerId, ProducerStamp, Run, Sequence, Timestamp, TopicId, TopicPartition,
};

/// What every object ends with.
pub const MAGIC: [u8; 8] = *b"YAKSOBJ1";
/// CRC, length and magic.
pub const TRAILER_LEN: usize = 16;

const INDEX_VERSION: u8 = 1;
const HAS_PRODUCER: u8 = 1;
const IS_TRANSACTIONAL: u8 = 2;

/// An index or an object that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    #[error("the index has version {0}, which this binary does not know")]
    Version(u8),
    #[error("the index ends too early or counts more than it holds")]
    Truncated,
    #[error("the index has a number that makes no sense: {0}")]
    Number(&'static str),
    #[error("{0} bytes follow the end of the index")]
    Trailing(usize),
    #[error("the object does not end with a yaks trailer")]
    NoTrailer,
    #[error("the index of the object is damaged: its CRC does not match")]
    Crc,
}

/// An object ready to be stored.
#[derive(Debug, Clone)]
pub struct PackedObject {
    /// The whole object, in pieces; record bytes are shared with the batches, not copied.
    pub pieces: Vec<Bytes>,
    pub runs: Vec<Run>,
    /// The index alone: the body of the write event.
    pub index: Bytes,
}

/// Lays out batches, grouped by log, one group after the other.
#[must_use]
pub fn pack(groups: Vec<(TopicPartition, Vec<(BatchSummary, Bytes)>)>) -> PackedObject {
    let mut pieces = Vec::with_capacity(2 + groups.iter().map(|(_, group)| group.len()).sum::<usize>());
    let mut runs = Vec::with_capacity(groups.len());
    let mut start = 0u64;
    for (log, group) in groups {
        let mut batches = Vec::with_capacity(group.len());
        for (summary, bytes) in group {
            batches.push(BatchSummary { len: bytes.len() as u32, ..summary });
            pieces.push(bytes);
        }
        let run = Run { log, start, batches };
        start += run.len();
        runs.push(run);
    }
    let index = encode_index(&runs);
    let mut trailer = Vec::with_capacity(TRAILER_LEN);
    trailer.extend(crc32c::crc32c(&index).to_be_bytes());
    trailer.extend((index.len() as u32).to_be_bytes());
    trailer.extend(MAGIC);
    pieces.push(index.clone());
    pieces.push(trailer.into());
    PackedObject { pieces: join(&pieces), runs, index }
}

/// Small pieces are joined: a piece costs more than the copying of a few kilobytes, and a small slice would keep a whole
/// network buffer alive for as long as the object is cached.
const JOIN_BELOW: usize = 8 * 1024;

fn join(pieces: &[Bytes]) -> Vec<Bytes> {
    let is_small = |piece: &Bytes| piece.len() < JOIN_BELOW;
    let neighbours = pieces.chunk_by(|one, next| is_small(one) && is_small(next));
    let joined = neighbours.map(|pieces| match pieces {
        [large] if !is_small(large) => large.clone(),
        small => small.concat().into(),
    });
    joined.collect()
}

/// The index of `runs`, in the newest version.
#[must_use]
pub fn encode_index(runs: &[Run]) -> Bytes {
    let mut out = Vec::with_capacity(16 + runs.iter().map(|r| 24 + 24 * r.batches.len()).sum::<usize>());
    out.push(INDEX_VERSION);
    varint::put(runs.len() as u64, &mut out);
    for run in runs {
        out.extend(run.log.topic.0);
        varint::put(u64::from(run.log.partition.0 as u32), &mut out);
        varint::put(run.start, &mut out);
        varint::put(run.batches.len() as u64, &mut out);
        for batch in &run.batches {
            encode_batch(batch, &mut out);
        }
    }
    out.into()
}

fn encode_batch(batch: &BatchSummary, out: &mut Vec<u8>) {
    varint::put(u64::from(batch.len), out);
    varint::put(u64::from(batch.record_count), out);
    varint::put_signed(batch.base_timestamp.0, out);
    varint::put_signed(batch.max_timestamp.0.wrapping_sub(batch.base_timestamp.0), out);
    let Some(producer) = batch.producer else {
        out.push(0);
        return;
    };
    out.push(HAS_PRODUCER | if producer.transactional { IS_TRANSACTIONAL } else { 0 });
    varint::put(producer.id.0 as u64, out);
    varint::put(u64::from(producer.epoch.0 as u16), out);
    varint::put(u64::from(producer.base_sequence.0 as u32), out);
}

/// Reads an index of any known version.
///
/// # Errors
/// [`IndexError`] if it is not one; memory is taken only for what the bytes really hold.
pub fn decode_index(bytes: &[u8]) -> Result<Vec<Run>, IndexError> {
    let (version, mut rest) = bytes.split_first().ok_or(IndexError::Truncated)?;
    if *version != INDEX_VERSION {
        return Err(IndexError::Version(*version));
    }
    let count = take_count(&mut rest)?;
    let mut runs = Vec::with_capacity(count.min(rest.len() / 20));
    for _ in 0..count {
        runs.push(decode_run(&mut rest)?);
    }
    if rest.is_empty() { Ok(runs) } else { Err(IndexError::Trailing(rest.len())) }
}

fn decode_run(rest: &mut &[u8]) -> Result<Run, IndexError> {
    let (topic, tail) = rest.split_first_chunk::<16>().ok_or(IndexError::Truncated)?;
    *rest = tail;
    let partition = narrow(take(rest)?, i32::MAX as u64, "partition")? as i32;
    let start = take(rest)?;
    let count = take_count(rest)?;
    if count == 0 {
        return Err(IndexError::Number("a run without batches"));
    }
    let mut batches = Vec::with_capacity(count.min(rest.len() / 5));
    let mut end = start;
    for _ in 0..count {
        let batch = decode_batch(rest)?;
        end = end.checked_add(u64::from(batch.len)).filter(|end| i64::try_from(*end).is_ok()).ok_or(IndexError::Number("a run's end"))?;
        batches.push(batch);
    }
    Ok(Run { log: TopicPartition { topic: TopicId(*topic), partition: PartitionIndex(partition) }, start, batches })
}

fn decode_batch(rest: &mut &[u8]) -> Result<BatchSummary, IndexError> {
    let len = narrow(take(rest)?, i32::MAX as u64, "a batch's length")? as u32;
    let record_count = narrow(take(rest)?, i32::MAX as u64, "a batch's record count")? as u32;
    if (len as usize) < HEADER_LEN || record_count == 0 {
        return Err(IndexError::Number("an empty batch"));
    }
    let base_timestamp = varint::take_signed(rest).ok_or(IndexError::Truncated)?;
    let max_timestamp = base_timestamp.wrapping_add(varint::take_signed(rest).ok_or(IndexError::Truncated)?);
    let (flags, tail) = rest.split_first().ok_or(IndexError::Truncated)?;
    *rest = tail;
    let producer = match *flags {
        0 => None,
        flags if flags & !IS_TRANSACTIONAL == HAS_PRODUCER => Some(ProducerStamp {
            id: ProducerId(narrow(take(rest)?, i64::MAX as u64, "a producer id")? as i64),
            epoch: ProducerEpoch(narrow(take(rest)?, i16::MAX as u64, "a producer epoch")? as i16),
            base_sequence: Sequence(narrow(take(rest)?, i32::MAX as u64, "a sequence")? as i32),
            transactional: flags & IS_TRANSACTIONAL != 0,
        }),
        _ => return Err(IndexError::Number("a batch's flags")),
    };
    let (base_timestamp, max_timestamp) = (Timestamp(base_timestamp), Timestamp(max_timestamp));
    Ok(BatchSummary { len, record_count, base_timestamp, max_timestamp, producer })
}

fn take(rest: &mut &[u8]) -> Result<u64, IndexError> {
    varint::take(rest).ok_or(IndexError::Truncated)
}

fn take_count(rest: &mut &[u8]) -> Result<usize, IndexError> {
    let count = take(rest)?;
    // Everything counted takes at least a byte, so a lying count is refused before memory is taken for it.
    usize::try_from(count).ok().filter(|count| *count <= rest.len()).ok_or(IndexError::Truncated)
}

fn narrow(value: u64, max: u64, what: &'static str) -> Result<u64, IndexError> {
    if value <= max { Ok(value) } else { Err(IndexError::Number(what)) }
}

/// The runs of an object, read from the bytes at its end: without any database.
///
/// # Errors
/// [`IndexError`]; [`IndexError::Truncated`] also if `tail` is a true end of the object but does not reach back to the index (see
/// [`index_len`]).
pub fn read_footer(tail: &[u8]) -> Result<Vec<Run>, IndexError> {
    let len = index_len(tail)?;
    let (rest, trailer) = tail.split_last_chunk::<TRAILER_LEN>().ok_or(IndexError::NoTrailer)?;
    let index = rest.len().checked_sub(len).and_then(|start| rest.get(start..)).ok_or(IndexError::Truncated)?;
    let (crc, _) = trailer.split_first_chunk::<4>().ok_or(IndexError::NoTrailer)?;
    if crc32c::crc32c(index) != u32::from_be_bytes(*crc) {
        return Err(IndexError::Crc);
    }
    decode_index(index)
}

/// The length of the index in front of the trailer, which are the last [`TRAILER_LEN`] bytes of `tail`.
///
/// # Errors
/// [`IndexError::NoTrailer`].
pub fn index_len(tail: &[u8]) -> Result<usize, IndexError> {
    let (_, trailer) = tail.split_last_chunk::<TRAILER_LEN>().ok_or(IndexError::NoTrailer)?;
    if trailer[8..] != MAGIC {
        return Err(IndexError::NoTrailer);
    }
    let len = trailer[4..].first_chunk::<4>().ok_or(IndexError::NoTrailer)?;
    Ok(u32::from_be_bytes(*len) as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn summary() -> impl Strategy<Value = BatchSummary> {
        let producer = prop::option::of((0..i64::MAX, 0..i16::MAX, 0..i32::MAX, any::<bool>()));
        (61u32..10_000, 1u32..100_000, any::<i64>(), any::<i64>(), producer).prop_map(|(len, record_count, base, max, producer)| {
            BatchSummary {
                len,
                record_count,
                base_timestamp: Timestamp(base),
                max_timestamp: Timestamp(max),
                producer: producer.map(|(id, epoch, sequence, transactional)| ProducerStamp {
                    id: ProducerId(id),
                    epoch: ProducerEpoch(epoch),
                    base_sequence: Sequence(sequence),
                    transactional,
                }),
            }
        })
    }

    fn groups() -> impl Strategy<Value = Vec<(TopicPartition, Vec<(BatchSummary, Bytes)>)>> {
        let batch = summary().prop_map(|s| (s, Bytes::from(vec![7; s.len as usize])));
        let group = (any::<[u8; 16]>(), 0..i32::MAX, prop::collection::vec(batch, 1..4));
        let log = group.prop_map(|(topic, partition, batches)| (TopicPartition::new(TopicId(topic), partition), batches));
        prop::collection::vec(log, 0..6)
    }

    proptest! {
        #[test]
        fn an_object_explains_itself(groups in groups()) {
            let packed = pack(groups.clone());
            let object: Vec<u8> = packed.pieces.concat();
            prop_assert_eq!(read_footer(&object), Ok(packed.runs.clone()));
            prop_assert_eq!(decode_index(&packed.index), Ok(packed.runs.clone()));
            for (run, (log, batches)) in packed.runs.iter().zip(&groups) {
                prop_assert_eq!(run.log, *log);
                let bytes: Vec<u8> = batches.iter().flat_map(|(_, b)| b.to_vec()).collect();
                prop_assert_eq!(&object[run.start as usize..][..run.len() as usize], &bytes[..]);
            }
        }

        #[test]
        fn damage_is_noticed(groups in groups(), at: prop::sample::Index, bit in 0u8..8) {
            let packed = pack(groups);
            let object = packed.pieces.concat();
            let mut tail = object[object.len() - packed.index.len() - TRAILER_LEN..].to_vec();
            let at = at.index(tail.len());
            tail[at] ^= 1 << bit;
            prop_assert!(read_footer(&tail).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), version: bool) {
            if version && !bytes.is_empty() {
                bytes[0] = INDEX_VERSION;
            }
            if let Ok(runs) = decode_index(&bytes) {
                prop_assert_eq!(decode_index(&encode_index(&runs)), Ok(runs));
            }
            let _ = read_footer(&bytes);
        }
    }
}

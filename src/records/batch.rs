//! One record batch: its header, what makes it acceptable, and the few bytes a broker changes.
//!
//! Layout (Kafka's `DefaultRecordBatch`, big-endian): base offset 0..8, length 8..12 (of what follows), leader epoch 12..16, magic 16, CRC-32C
//! 17..21 (of what follows), attributes 21..23, last offset delta 23..27, base timestamp 27..35, max timestamp 35..43, producer id 43..51, producer epoch
//! 51..53, base sequence 53..57, record count 57..61, records. A broker sets base offset and leader epoch, which lie outside the CRC.

use bytes::{Bytes, BytesMut};

use super::varint;
use crate::types::{BatchSummary, Offset, ProducerEpoch, ProducerId, ProducerStamp, Sequence, Timestamp};

/// Length of a batch header.
pub const HEADER_LEN: usize = 61;
/// Base offset and length: what `batch_length` does not count.
pub const LOG_OVERHEAD: usize = 12;
/// The part in front of the magic byte that a broker may rewrite: base offset, length, leader epoch.
pub const PREFIX_LEN: usize = 16;

const CODEC_MASK: u16 = 0x07;
const LOG_APPEND_TIME: u16 = 0x08;
const TRANSACTIONAL: u16 = 0x10;
const CONTROL: u16 = 0x20;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Why a batch is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("the record set is empty")]
    Empty,
    #[error("the record set of {0} bytes is shorter than a batch header")]
    TooShort(usize),
    #[error("magic {0} is not supported; batches have magic 2 since Kafka 0.11")]
    Magic(i8),
    #[error("the batch says that it is {said} bytes long, but {given} were given")]
    Length { said: i64, given: usize },
    #[error("{0} bytes follow the batch; a produce request carries exactly one batch per partition")]
    MoreThanOne(usize),
    #[error("the batch of {given} bytes is larger than max.message.bytes, {limit}")]
    TooLarge { given: usize, limit: u32 },
    #[error("the batch's CRC is {said:08x}, but its bytes have {computed:08x}")]
    Crc { said: u32, computed: u32 },
    #[error("compression codec {0} is unknown")]
    Codec(u16),
    #[error("zstd needs Produce version 7 or higher")]
    ZstdTooEarly,
    #[error("clients cannot write control batches")]
    Control,
    #[error("the batch says that it has {count} records and a last offset delta of {last_offset_delta}")]
    Count { count: i32, last_offset_delta: i32 },
    #[error("the records do not fill the batch as their lengths and count say")]
    Records,
    #[error("the batch has log append time, which only a broker may set")]
    TimestampType,
    #[error("producer id {id}, epoch {epoch}, sequence {sequence} do not fit together")]
    Producer { id: i64, epoch: i16, sequence: i32 },
    #[error("the records cannot be read: {0}")]
    Unreadable(String),
}

/// What the topic and the request allow.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// `max.message.bytes`, of the whole batch.
    pub max_bytes: u32,
    /// False below Produce version 7 (KIP-110).
    pub zstd: bool,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(slice) = bytes.get(at..at + N) {
        out.copy_from_slice(slice);
    }
    out
}

/// The header of a batch, as it stands in the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    pub batch_length: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: u16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads a header; `None` if there are fewer than [`HEADER_LEN`] bytes.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<BatchHeader> {
        let bytes = bytes.get(..HEADER_LEN)?;
        Some(BatchHeader {
            base_offset: i64::from_be_bytes(array(bytes, 0)),
            batch_length: i32::from_be_bytes(array(bytes, 8)),
            magic: i8::from_be_bytes(array(bytes, 16)),
            crc: u32::from_be_bytes(array(bytes, 17)),
            attributes: u16::from_be_bytes(array(bytes, 21)),
            last_offset_delta: i32::from_be_bytes(array(bytes, 23)),
            base_timestamp: i64::from_be_bytes(array(bytes, 27)),
            max_timestamp: i64::from_be_bytes(array(bytes, 35)),
            producer_id: i64::from_be_bytes(array(bytes, 43)),
            producer_epoch: i16::from_be_bytes(array(bytes, 51)),
            base_sequence: i32::from_be_bytes(array(bytes, 53)),
            record_count: i32::from_be_bytes(array(bytes, 57)),
        })
    }

    /// Length of the whole batch as it says itself, or `None` if that is shorter than a header.
    #[must_use]
    pub fn total_len(&self) -> Option<usize> {
        let total = usize::try_from(self.batch_length).ok()?.checked_add(LOG_OVERHEAD)?;
        (total >= HEADER_LEN).then_some(total)
    }

    /// # Errors
    /// [`BatchError::Codec`] for the numbers 5 to 7.
    pub fn codec(&self) -> Result<Codec, BatchError> {
        match self.attributes & CODEC_MASK {
            0 => Ok(Codec::None),
            1 => Ok(Codec::Gzip),
            2 => Ok(Codec::Snappy),
            3 => Ok(Codec::Lz4),
            4 => Ok(Codec::Zstd),
            unknown => Err(BatchError::Codec(unknown)),
        }
    }

    /// True if the broker's time counts for all records, instead of their own.
    #[must_use]
    pub fn has_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }
}

/// Checks that `bytes` are exactly one batch that can be stored as it is, and says what is in it.
///
/// Compressed records are not opened; the lengths of uncompressed ones are followed to the end.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(bytes: &[u8], limits: &BatchLimits) -> Result<BatchSummary, BatchError> {
    let header = check_frame(bytes, limits)?;
    check_attributes(&header, limits)?;
    let counted = header.record_count > 0 && header.record_count.checked_sub(1) == Some(header.last_offset_delta);
    if !counted {
        return Err(BatchError::Count { count: header.record_count, last_offset_delta: header.last_offset_delta });
    }
    let producer = check_producer(&header)?;
    if header.codec()? == Codec::None {
        check_records(&bytes[HEADER_LEN..], header.record_count)?;
    }
    Ok(BatchSummary {
        len: bytes.len() as u32,
        record_count: header.record_count as u32,
        base_timestamp: Timestamp(header.base_timestamp),
        max_timestamp: Timestamp(header.max_timestamp),
        producer,
    })
}

fn check_frame(bytes: &[u8], limits: &BatchLimits) -> Result<BatchHeader, BatchError> {
    if bytes.is_empty() {
        return Err(BatchError::Empty);
    }
    // Magic stands at the same place in all three formats, so an old client learns what is really wrong.
    if let Some(magic) = bytes.get(16).map(|b| *b as i8).filter(|magic| *magic != 2) {
        return Err(BatchError::Magic(magic));
    }
    let header = BatchHeader::read(bytes).ok_or(BatchError::TooShort(bytes.len()))?;
    let said = i64::from(header.batch_length) + LOG_OVERHEAD as i64;
    match header.total_len() {
        Some(total) if total == bytes.len() => {}
        Some(total) if total < bytes.len() => return Err(BatchError::MoreThanOne(bytes.len() - total)),
        Some(_) | None => return Err(BatchError::Length { said, given: bytes.len() }),
    }
    if bytes.len() > limits.max_bytes as usize {
        return Err(BatchError::TooLarge { given: bytes.len(), limit: limits.max_bytes });
    }
    let computed = crc32c::crc32c(&bytes[21..]);
    if computed == header.crc { Ok(header) } else { Err(BatchError::Crc { said: header.crc, computed }) }
}

fn check_attributes(header: &BatchHeader, limits: &BatchLimits) -> Result<(), BatchError> {
    if header.codec()? == Codec::Zstd && !limits.zstd {
        return Err(BatchError::ZstdTooEarly);
    }
    if header.attributes & CONTROL != 0 {
        return Err(BatchError::Control);
    }
    if header.has_log_append_time() {
        return Err(BatchError::TimestampType);
    }
    Ok(())
}

fn check_producer(header: &BatchHeader) -> Result<Option<ProducerStamp>, BatchError> {
    let (id, epoch, sequence) = (header.producer_id, header.producer_epoch, header.base_sequence);
    let transactional = header.attributes & TRANSACTIONAL != 0;
    if id == -1 && !transactional {
        return Ok(None);
    }
    if id < 0 || epoch < 0 || sequence < 0 {
        return Err(BatchError::Producer { id, epoch, sequence });
    }
    Ok(Some(ProducerStamp { id: ProducerId(id), epoch: ProducerEpoch(epoch), base_sequence: Sequence(sequence), transactional }))
}

/// Hops from record to record by their lengths. A batch that lies about its count would stop every consumer behind it.
pub(super) fn check_records(mut records: &[u8], count: i32) -> Result<(), BatchError> {
    for _ in 0..count {
        let len = varint::take_signed(&mut records).and_then(|len| usize::try_from(len).ok());
        records = len.and_then(|len| records.get(len..)).ok_or(BatchError::Records)?;
    }
    if records.is_empty() { Ok(()) } else { Err(BatchError::Records) }
}

/// The batch with the broker's time in place of its producer's (`message.timestamp.type=LogAppendTime`). Costs a copy and a CRC.
#[must_use]
pub fn with_append_time(bytes: &Bytes, summary: &BatchSummary, now: Timestamp) -> (Bytes, BatchSummary) {
    let mut stamped = BytesMut::from(&bytes[..]);
    if stamped.len() >= HEADER_LEN {
        let attributes = u16::from_be_bytes(array(&stamped, 21)) | LOG_APPEND_TIME;
        stamped[21..23].copy_from_slice(&attributes.to_be_bytes());
        stamped[35..43].copy_from_slice(&now.0.to_be_bytes());
        let crc = crc32c::crc32c(&stamped[21..]);
        stamped[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    (stamped.freeze(), BatchSummary { max_timestamp: now, ..*summary })
}

/// Puts length, codec and CRC right after the records were replaced.
pub(super) fn set_payload(batch: &mut [u8], codec: Codec) {
    let codec = match codec {
        Codec::None => 0,
        Codec::Gzip => 1,
        Codec::Snappy => 2,
        Codec::Lz4 => 3,
        Codec::Zstd => 4,
    };
    let attributes = u16::from_be_bytes(array(batch, 21)) & !CODEC_MASK | codec;
    let len = (batch.len() - LOG_OVERHEAD) as i32;
    batch[8..12].copy_from_slice(&len.to_be_bytes());
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// The first [`PREFIX_LEN`] bytes of a batch as a consumer is to see them: with its base offset and leader epoch 0.
#[must_use]
pub fn numbered_prefix(header: &BatchHeader, base_offset: Offset) -> [u8; PREFIX_LEN] {
    let mut prefix = [0; PREFIX_LEN];
    prefix[..8].copy_from_slice(&base_offset.0.to_be_bytes());
    prefix[8..12].copy_from_slice(&header.batch_length.to_be_bytes());
    prefix
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;

/// Batches for tests of all rooms, built by hand so that tests do not check this code with itself.
#[cfg(test)]
pub(crate) mod build {
    use super::super::varint;

    /// A batch of `count` records of `size` value bytes each, uncompressed, with timestamps from `timestamp` upwards.
    pub(crate) fn batch(count: i32, size: usize, timestamp: i64) -> Vec<u8> {
        let mut records = Vec::new();
        for i in 0..count {
            let mut record = vec![0u8];
            varint::put_signed(i64::from(i), &mut record);
            varint::put_signed(i64::from(i), &mut record);
            varint::put_signed(1, &mut record);
            record.push(b'k');
            varint::put_signed(size as i64, &mut record);
            record.extend(std::iter::repeat_n(i as u8, size));
            varint::put_signed(0, &mut record);
            varint::put_signed(record.len() as i64, &mut records);
            records.extend(record);
        }
        with_records(count, timestamp, 0, &records)
    }

    /// A batch round `records`, already compressed as `attributes` say.
    pub(crate) fn with_records(count: i32, timestamp: i64, attributes: u16, records: &[u8]) -> Vec<u8> {
        let mut batch = vec![0u8; 61];
        batch.extend(records);
        let len = batch.len();
        batch[8..12].copy_from_slice(&((len - 12) as i32).to_be_bytes());
        batch[12..16].copy_from_slice(&(-1i32).to_be_bytes());
        batch[16] = 2;
        batch[21..23].copy_from_slice(&attributes.to_be_bytes());
        batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        batch[27..35].copy_from_slice(&timestamp.to_be_bytes());
        batch[35..43].copy_from_slice(&(timestamp + i64::from(count) - 1).to_be_bytes());
        batch[43..57].fill(0xff);
        batch[57..61].copy_from_slice(&count.to_be_bytes());
        sealed(batch)
    }

    /// The same batch from an idempotent producer.
    pub(crate) fn stamped(mut batch: Vec<u8>, id: i64, epoch: i16, sequence: i32) -> Vec<u8> {
        batch[43..51].copy_from_slice(&id.to_be_bytes());
        batch[51..53].copy_from_slice(&epoch.to_be_bytes());
        batch[53..57].copy_from_slice(&sequence.to_be_bytes());
        sealed(batch)
    }

    /// The same batch with the right CRC, after a test has changed it.
    pub(crate) fn sealed(mut batch: Vec<u8>) -> Vec<u8> {
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        batch
    }
}

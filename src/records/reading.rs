//! Looking into a batch, record by record: for look-ups by time and for topics whose records need keys. Never on the hot path.

use std::io::{self, Read};
use std::ops::ControlFlow;

use super::batch::{BatchError, BatchHeader, HEADER_LEN};
use super::{compression, varint};
use crate::types::Timestamp;

/// The head of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHead {
    /// Added to the batch's base offset, this is the record's offset.
    pub offset_delta: u32,
    pub timestamp: Timestamp,
    pub has_key: bool,
    /// Bytes of the record, unfolded, without its length.
    pub len: u64,
}

/// Calls `visit` for each record of one batch, in order, until it breaks.
///
/// # Errors
/// [`BatchError::Unreadable`] if the records cannot be unfolded or parsed.
pub fn for_each_record<B>(batch: &[u8], mut visit: impl FnMut(RecordHead) -> ControlFlow<B>) -> Result<Option<B>, BatchError> {
    let header = BatchHeader::read(batch).ok_or(BatchError::TooShort(batch.len()))?;
    let unreadable = |error: io::Error| BatchError::Unreadable(error.to_string());
    let mut reader = compression::reader(header.codec()?, &batch[HEADER_LEN..]).map_err(unreadable)?;
    for _ in 0..header.record_count {
        let head = read_record(&mut reader, &header).map_err(unreadable)?;
        if let ControlFlow::Break(found) = visit(head) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The first record that is not older than `at`: its offset delta and time.
///
/// # Errors
/// As [`for_each_record`].
pub fn first_record_since(batch: &[u8], at: Timestamp) -> Result<Option<(u32, Timestamp)>, BatchError> {
    for_each_record(batch, |record| {
        if record.timestamp >= at { ControlFlow::Break((record.offset_delta, record.timestamp)) } else { ControlFlow::Continue(()) }
    })
}

/// The first of the records with the largest timestamp: its offset delta and time (KIP-734).
///
/// # Errors
/// As [`for_each_record`].
pub fn newest_record(batch: &[u8]) -> Result<Option<(u32, Timestamp)>, BatchError> {
    let mut newest: Option<(u32, Timestamp)> = None;
    for_each_record(batch, |record| -> ControlFlow<()> {
        if newest.is_none_or(|(_, time)| record.timestamp > time) {
            newest = Some((record.offset_delta, record.timestamp));
        }
        ControlFlow::Continue(())
    })?;
    Ok(newest)
}

/// `length varint, attributes i8, timestamp delta varlong, offset delta varint, key length varint, …` (KIP-98).
fn read_record(reader: &mut impl Read, header: &BatchHeader) -> io::Result<RecordHead> {
    let ended = || io::Error::new(io::ErrorKind::UnexpectedEof, "the records end too early");
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let (len, _) = varint::read_signed(reader)?.ok_or_else(ended)?;
    reader.read_exact(&mut [0u8])?;
    let (timestamp_delta, a) = varint::read_signed(reader)?.ok_or_else(ended)?;
    let (offset_delta, b) = varint::read_signed(reader)?.ok_or_else(ended)?;
    let (key_len, c) = varint::read_signed(reader)?.ok_or_else(ended)?;
    let rest = u64::try_from(len).ok().and_then(|len| len.checked_sub(1 + a + b + c)).ok_or_else(|| invalid("a record is too short"))?;
    if io::copy(&mut reader.take(rest), &mut io::sink())? != rest {
        return Err(ended());
    }
    let timestamp = if header.has_log_append_time() { header.max_timestamp } else { header.base_timestamp.saturating_add(timestamp_delta) };
    let offset_delta = u32::try_from(offset_delta).map_err(|_| invalid("a record has an offset outside its batch"))?;
    Ok(RecordHead { offset_delta, timestamp: Timestamp(timestamp), has_key: key_len >= 0, len: 1 + a + b + c + rest })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::super::batch::build;
    use super::*;

    fn payload(batch: &[u8]) -> &[u8] {
        &batch[HEADER_LEN..]
    }

    fn xerial(records: &[u8]) -> Vec<u8> {
        let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
        for chunk in records.chunks(100) {
            let block = snap::raw::Encoder::new().compress_vec(chunk).expect("compressed");
            out.extend((block.len() as u32).to_be_bytes());
            out.extend(block);
        }
        out
    }

    fn every_codec(count: i32, timestamp: i64) -> Vec<Vec<u8>> {
        let plain = build::batch(count, 50, timestamp);
        let records = payload(&plain);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(records).expect("compressed");
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(records).expect("compressed");
        let snappy = snap::raw::Encoder::new().compress_vec(records).expect("compressed");
        vec![
            build::with_records(count, timestamp, 1, &gzip.finish().expect("compressed")),
            build::with_records(count, timestamp, 2, &snappy),
            build::with_records(count, timestamp, 2, &xerial(records)),
            build::with_records(count, timestamp, 3, &lz4.finish().expect("compressed")),
            build::with_records(count, timestamp, 4, &zstd::encode_all(records, 1).expect("compressed")),
            plain,
        ]
    }

    #[test]
    fn a_record_is_found_by_time_in_every_codec() {
        for batch in every_codec(20, 1_000) {
            assert_eq!(first_record_since(&batch, Timestamp(0)), Ok(Some((0, Timestamp(1_000)))));
            assert_eq!(first_record_since(&batch, Timestamp(1_007)), Ok(Some((7, Timestamp(1_007)))));
            assert_eq!(first_record_since(&batch, Timestamp(1_020)), Ok(None));
            assert_eq!(newest_record(&batch), Ok(Some((19, Timestamp(1_019)))));
        }
    }

    #[test]
    fn damaged_records_are_an_error() {
        for mut batch in every_codec(20, 1_000) {
            batch.truncate(batch.len() - 10);
            assert!(for_each_record(&batch, |_| ControlFlow::<()>::Continue(())).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(codec in 0u16..8, records in prop::collection::vec(any::<u8>(), 0..200)) {
            let batch = build::with_records(5, 0, codec, &records);
            let _ = for_each_record(&batch, |_| ControlFlow::<()>::Continue(()));
        }
    }
}

//! What a producer sends as one batch: checked as Produce does, then opened record by record.

use std::ops::ControlFlow;

use bytes::Bytes;
use yaks::records::batch::{BatchHeader, BatchLimits, LOG_OVERHEAD, check, numbered_prefix, with_append_time};
use yaks::records::{first_record_since, for_each_record, newest_record};
use yaks::types::{Offset, Timestamp};

/// Where the bytes begin that a batch's checksum covers.
const CRC_END: usize = 21;
/// A small batch can unfold to an endless one; the fuzzer is not to wait for it.
const RECORDS: u32 = 10_000;

/// True if the batch would be stored.
pub(crate) fn run(data: &[u8]) -> bool {
    // A wrong checksum ends a check early; the fuzzer is to get behind it.
    let mut sealed = data.to_vec();
    if let Some((head, body)) = sealed.split_at_mut_checked(CRC_END) {
        head[CRC_END - 4..].copy_from_slice(&crc32c::crc32c(body).to_be_bytes());
        judge(&sealed);
    }
    judge(data)
}

fn judge(data: &[u8]) -> bool {
    let limits = BatchLimits { max_bytes: 1 << 20, zstd: true };
    let mut seen = 0u32;
    // Also what the check refuses is opened: it has to hold without the check.
    let opened = for_each_record(data, |_| {
        seen += 1;
        if seen < RECORDS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    let Ok(summary) = check(data, &limits) else { return false };
    let Some(header) = BatchHeader::read(data) else { unreachable!("a batch that passed has a header") };
    assert_eq!(summary.len as usize, data.len());
    assert_eq!(header.total_len(), Some(data.len()));
    assert_eq!(i64::from(summary.record_count), i64::from(header.last_offset_delta) + 1);
    if matches!(opened, Ok(None)) {
        assert_eq!(seen, summary.record_count);
        let Ok(newest) = newest_record(data) else { unreachable!("it was opened before") };
        let since = newest.and_then(|(_, time)| first_record_since(data, time).ok().flatten());
        assert_eq!(newest, since, "the first of the newest is the first that is not older than it");
    }
    numbered(data, &header, &limits);
    let (stamped, stamped_summary) = with_append_time(&Bytes::copy_from_slice(data), &summary, Timestamp(5));
    assert_eq!((stamped.len(), stamped_summary.max_timestamp), (data.len(), Timestamp(5)));
    true
}

/// A batch that was given its offset is as good as before.
fn numbered(data: &[u8], header: &BatchHeader, limits: &BatchLimits) {
    let prefix = numbered_prefix(header, Offset(42));
    let whole = [&prefix[..], &data[prefix.len()..]].concat();
    assert!(check(&whole, limits).is_ok());
    assert_eq!(whole[8..LOG_OVERHEAD], data[8..LOG_OVERHEAD]);
}

use proptest::prelude::*;

use super::*;

const LIMITS: BatchLimits = BatchLimits { max_bytes: 1_048_588, zstd: true };

fn changed(at: usize, value: &[u8]) -> Vec<u8> {
    let mut batch = build::batch(3, 100, 1_000);
    batch[at..at + value.len()].copy_from_slice(value);
    build::sealed(batch)
}

#[test]
fn a_good_batch_is_summarized() {
    let batch = build::stamped(build::batch(3, 100, 1_000), 7, 2, 40);
    let summary = check(&batch, &LIMITS).expect("good");
    assert_eq!(summary.record_count, 3);
    assert_eq!(summary.len as usize, batch.len());
    assert_eq!((summary.base_timestamp, summary.max_timestamp), (Timestamp(1_000), Timestamp(1_002)));
    assert_eq!(summary.last_sequence(), Some(Sequence(42)));
}

#[test]
fn each_fault_is_named() {
    let good = build::batch(3, 100, 1_000);
    let two = [&good[..], &good[..]].concat();
    let trailing = [&good[..], b"x"].concat();
    let mut crc = good.clone();
    crc[80] ^= 1;
    assert!(matches!(check(&[], &LIMITS), Err(BatchError::Empty)));
    assert!(matches!(check(&good[..40], &LIMITS), Err(BatchError::TooShort(40))));
    assert!(matches!(check(&good[..100], &LIMITS), Err(BatchError::Length { .. })));
    assert!(matches!(check(&two, &LIMITS), Err(BatchError::MoreThanOne(_))));
    assert!(matches!(check(&trailing, &LIMITS), Err(BatchError::MoreThanOne(1))));
    assert!(matches!(check(&crc, &LIMITS), Err(BatchError::Crc { .. })));
    assert!(matches!(check(&changed(16, &[0]), &LIMITS), Err(BatchError::Magic(0))));
    assert!(matches!(check(&changed(16, &[1]), &LIMITS), Err(BatchError::Magic(1))));
    assert!(matches!(check(&changed(8, &(-5i32).to_be_bytes()), &LIMITS), Err(BatchError::Length { .. })));
    assert!(matches!(check(&changed(21, &[0, 5]), &LIMITS), Err(BatchError::Codec(5))));
    assert!(matches!(check(&changed(21, &[0, 0x20]), &LIMITS), Err(BatchError::Control)));
    assert!(matches!(check(&changed(21, &[0, 0x08]), &LIMITS), Err(BatchError::TimestampType)));
    assert!(matches!(check(&changed(21, &[0, 0x10]), &LIMITS), Err(BatchError::Producer { .. })));
    assert!(matches!(check(&changed(57, &(-3i32).to_be_bytes()), &LIMITS), Err(BatchError::Count { .. })));
    assert!(matches!(check(&changed(57, &i32::MIN.to_be_bytes()), &LIMITS), Err(BatchError::Count { .. })));
    assert!(matches!(check(&changed(23, &9i32.to_be_bytes()), &LIMITS), Err(BatchError::Count { .. })));
    assert!(matches!(check(&changed(43, &7i64.to_be_bytes()), &LIMITS), Err(BatchError::Producer { .. })));
    assert!(matches!(check(&good, &BatchLimits { max_bytes: 100, zstd: true }), Err(BatchError::TooLarge { .. })));
    let zstd = build::with_records(1, 0, 4, b"....");
    assert!(matches!(check(&zstd, &BatchLimits { zstd: false, ..LIMITS }), Err(BatchError::ZstdTooEarly)));
}

#[test]
fn a_count_that_agrees_with_itself_but_not_with_the_records_is_refused() {
    let mut batch = build::batch(3, 100, 1_000);
    batch[23..27].copy_from_slice(&999i32.to_be_bytes());
    batch[57..61].copy_from_slice(&1_000i32.to_be_bytes());
    assert!(matches!(check(&build::sealed(batch), &LIMITS), Err(BatchError::Records)));
}

#[test]
fn append_time_is_stamped_under_a_right_crc() {
    let batch = Bytes::from(build::batch(3, 100, 1_000));
    let summary = check(&batch, &LIMITS).expect("good");
    let (stamped, summary) = with_append_time(&batch, &summary, Timestamp(5_000));
    let header = BatchHeader::read(&stamped).expect("a header");
    assert!(header.has_log_append_time());
    assert_eq!((header.max_timestamp, summary.max_timestamp), (5_000, Timestamp(5_000)));
    assert_eq!(header.crc, crc32c::crc32c(&stamped[21..]));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = check(&bytes, &LIMITS);
    }

    #[test]
    fn a_flipped_bit_is_always_noticed(bit in 0usize..(16 * 8)) {
        // Base offset and leader epoch are the broker's to set; every other bit of the header matters.
        let mut batch = build::batch(1, 10, 0);
        let at = 16 * 8 + bit % ((batch.len() - 16) * 8);
        batch[at / 8] ^= 1 << (at % 8);
        prop_assert!(check(&batch, &LIMITS).is_err());
    }

    #[test]
    fn mutated_headers_never_pass_with_a_wrong_shape(at in 8usize..61, byte: u8) {
        let mut batch = build::batch(2, 10, 0);
        batch[at] = byte;
        let batch = build::sealed(batch);
        if let Ok(summary) = check(&batch, &LIMITS) {
            prop_assert_eq!(summary.len as usize, batch.len());
            prop_assert_eq!(summary.record_count, 2);
        }
    }
}

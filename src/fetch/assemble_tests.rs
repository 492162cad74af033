use proptest::prelude::*;

use super::*;
use crate::fetch::testing::{offsets, pieces, run, segment};
use crate::records::batch::{BatchHeader, build};

fn everything(from: i64) -> Wanted {
    Wanted { from: Offset(from), until: Offset(i64::MAX), limit: u64::MAX }
}

fn assemble(wanted: Wanted, segment: &Segment, bytes: Vec<Bytes>) -> (Result<Step, FetchError>, Vec<Bytes>) {
    let mut assembly = Assembly::new(wanted);
    let step = assembly.add(segment, Place::start_of(segment), bytes);
    (step, assembly.finish())
}

/// Batches of 3, 1 and 5 records, the second one large, at offsets 100 to 108.
fn three() -> (Segment, Vec<u8>) {
    let bytes = run(&[(3, 10), (1, 5_000), (5, 20)]);
    (segment(1, 100..109, 50..50 + bytes.len() as u64), bytes)
}

#[test]
fn batches_get_their_offsets_whatever_the_pieces() {
    let (segment, bytes) = three();
    for len in [1, 7, 16, 60, 61, 500, 100_000] {
        let (step, records) = assemble(everything(0), &segment, pieces(&bytes, len));
        assert_eq!(step, Ok(Step::Finished));
        assert_eq!(offsets(&records), (100..109).collect::<Vec<_>>());
    }
}

#[test]
fn an_answer_begins_with_the_batch_that_holds_the_offset() {
    let (segment, bytes) = three();
    for (from, first) in [(100, 100), (102, 100), (103, 103), (104, 104), (108, 104)] {
        let (step, records) = assemble(everything(from), &segment, pieces(&bytes, 100));
        assert_eq!((step, offsets(&records)[0]), (Ok(Step::Finished), first), "from {from}");
    }
}

#[test]
fn a_limit_cuts_between_batches_and_says_what_the_next_one_needs() {
    let (segment, bytes) = three();
    let first = run(&[(3, 10)]).len() as u64;
    let second = run(&[(1, 5_000)]).len() as u64;
    let full = Ok(Step::Full { place: Place { position: first, offset: Offset(103) }, need: second });
    let (step, records) = assemble(Wanted { limit: first + second - 1, ..everything(0) }, &segment, pieces(&bytes, 100));
    assert_eq!((step, offsets(&records)), (full.clone(), vec![100, 101, 102]));
    let (step, _) = assemble(everything(0), &segment, pieces(&bytes[..first as usize + 61], 100));
    assert_eq!(step, full);
    let (step, _) = assemble(everything(0), &segment, pieces(&bytes[..first as usize + 60], 100));
    assert_eq!(step, Ok(Step::Short { place: Place { position: first, offset: Offset(103) } }));
}

#[test]
fn nothing_at_or_above_the_end_is_returned() {
    let (segment, bytes) = three();
    let (step, records) = assemble(Wanted { until: Offset(104), ..everything(0) }, &segment, pieces(&bytes, 100));
    assert_eq!((step, offsets(&records)), (Ok(Step::Ended), vec![100, 101, 102, 103]));
}

#[test]
fn large_batches_are_not_copied_and_small_ones_become_one_piece() {
    let bytes = Bytes::from(run(&[(1, 5_000), (1, 50), (2, 30), (1, 5_000)]));
    let segment = segment(1, 0..5, 0..bytes.len() as u64);
    let (_, records) = assemble(everything(0), &segment, vec![bytes.clone()]);
    // Prefix, records, small batches and the next prefix, records.
    assert_eq!(records.len(), 4);
    let memory = bytes.as_ptr_range();
    let shared: Vec<bool> = records.iter().map(|piece| memory.contains(&piece.as_ptr())).collect();
    assert_eq!(shared, [false, true, false, true]);
}

#[test]
fn numbered_batches_pass_as_they_are_with_their_gaps() {
    let mut bytes = run(&[(3, 10), (1, 5_000), (5, 20)]);
    let mut at = 0;
    for base in [100i64, 110, 120] {
        let header = BatchHeader::read(&bytes[at..]).expect("a header");
        bytes[at..at + 16].copy_from_slice(&numbered_prefix(&header, Offset(base)));
        at += header.total_len().expect("a length");
    }
    let bytes = Bytes::from(bytes);
    let segment = Segment { level: 1, record_count: 9, ..segment(1, 90..130, 0..bytes.len() as u64) };
    let (step, records) = assemble(everything(111), &segment, vec![bytes.slice(..40), bytes.slice(40..)]);
    assert_eq!(step, Ok(Step::Finished));
    assert_eq!((records.len(), offsets(&records)), (1, vec![120, 121, 122, 123, 124]));
    let (_, records) = assemble(everything(0), &segment, vec![bytes.clone()]);
    assert_eq!((records.len(), offsets(&records)[3]), (1, 110));
}

#[test]
fn bytes_that_are_not_the_segment_are_corrupt() {
    let (segment, bytes) = three();
    let changed = |at: usize, value: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        assemble(everything(0), &segment, pieces(&bytes, 100)).0
    };
    let corrupt = |step: &Result<Step, FetchError>| matches!(step, Err(FetchError::Corrupt(_)));
    assert!(corrupt(&changed(16, &[1])), "magic");
    assert!(corrupt(&changed(8, &10i32.to_be_bytes())), "shorter than a header");
    assert!(corrupt(&changed(8, &(-10i32).to_be_bytes())), "a negative length");
    assert!(corrupt(&changed(8, &1_000_000i32.to_be_bytes())), "longer than the segment");
    assert!(corrupt(&changed(23, &(-1i32).to_be_bytes())), "a negative offset delta");
    assert!(corrupt(&changed(57, &(-3i32).to_be_bytes())), "a negative record count");
    assert!(corrupt(&changed(57, &4i32.to_be_bytes())), "two counts");
    for (count, last) in [(8, 108), (9, 107), (9, 109), (10, 109)] {
        let wrong = Segment { record_count: count, last_offset: Offset(last), ..segment };
        assert!(corrupt(&assemble(everything(0), &wrong, pieces(&bytes, 100)).0), "{count} records to {last}");
    }
}

#[test]
fn what_came_before_the_damage_stays() {
    let (segment, mut bytes) = three();
    let second = run(&[(3, 10)]).len();
    bytes[second + 16] = 0;
    let (step, records) = assemble(everything(0), &segment, pieces(&bytes, 100));
    assert!(step.is_err());
    assert_eq!(offsets(&records), [100, 101, 102]);
}

/// The same, written as plainly as can be: one copy, then patched.
fn plainly(bytes: &[u8], base: i64, from: i64, limit: usize) -> Vec<u8> {
    let (mut out, mut rest, mut base) = (Vec::new(), bytes, base);
    while !rest.is_empty() {
        let header = BatchHeader::read(rest).expect("a header");
        let len = header.total_len().expect("a length");
        let (mut batch, last) = (rest[..len].to_vec(), base + i64::from(header.last_offset_delta));
        batch[..16].copy_from_slice(&numbered_prefix(&header, Offset(base)));
        if last >= from && out.len() + len > limit {
            break;
        }
        if last >= from {
            out.extend(batch);
        }
        (base, rest) = (last + 1, &rest[len..]);
    }
    out
}

proptest! {
    #[test]
    fn it_is_what_the_plain_way_gives(
        batches in prop::collection::vec((1i32..5, 0usize..1_500), 1..12),
        piece in 1usize..3_000,
        from in 0i64..70,
        limit in 0usize..20_000,
    ) {
        let bytes = run(&batches);
        let count: i64 = batches.iter().map(|(count, _)| i64::from(*count)).sum();
        let segment = segment(1, 10..10 + count, 0..bytes.len() as u64);
        let wanted = Wanted { from: Offset(from), until: Offset(i64::MAX), limit: limit as u64 };
        let mut assembly = Assembly::new(wanted);
        assembly.add(&segment, Place::start_of(&segment), pieces(&bytes, piece)).expect("good bytes");
        let (len, records) = (assembly.len(), assembly.finish());
        prop_assert_eq!(records.concat(), plainly(&bytes, 10, from, limit));
        prop_assert_eq!(len as usize, records.concat().len());
        prop_assert!(records.iter().all(|piece| !piece.is_empty()));
    }

    #[test]
    fn no_bytes_make_it_panic(
        at in 0usize..400,
        junk in prop::collection::vec(any::<u8>(), 0..40),
        cut in 0usize..600,
        level in 0u8..2,
        piece in 1usize..200,
    ) {
        let mut bytes = run(&[(2, 30), (1, 100), (3, 20)]);
        let end = bytes.len().min(at + junk.len());
        let at = at.min(end);
        bytes[at..end].copy_from_slice(&junk[..end - at]);
        let segment = Segment { level, ..segment(1, 0..6, 0..bytes.len() as u64) };
        bytes.truncate(cut);
        let _ = assemble(everything(0), &segment, pieces(&bytes, piece));
    }

    #[test]
    fn a_batch_of_any_codec_is_never_opened(payload in prop::collection::vec(any::<u8>(), 0..2_000), codec in 1u16..5) {
        let bytes = build::with_records(7, 0, codec, &payload);
        let segment = segment(1, 0..7, 0..bytes.len() as u64);
        let (step, records) = assemble(everything(3), &segment, pieces(&bytes, 333));
        prop_assert_eq!(step, Ok(Step::Finished));
        prop_assert_eq!(&records.concat()[16..], &bytes[16..]);
    }
}

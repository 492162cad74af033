use proptest::prelude::*;

use super::*;
use crate::fetch::testing::segment;

const MIB: u64 = 1 << 20;

fn hungry(from: i64, max_bytes: u64, segments: &[Segment]) -> Hungry<'_> {
    Hungry { from: Offset(from), max_bytes, segments, known: None }
}

/// Segments of 100 records and `bytes` each, one object after the other.
fn segments(count: u64, bytes: u64) -> Vec<Segment> {
    (0..count).map(|i| segment(i, i as i64 * 100..(i as i64 + 1) * 100, 1_000..1_000 + bytes)).collect()
}

fn ranges(plan: &LogPlan) -> Vec<(ObjectId, u64, u64)> {
    plan.reads.iter().map(|read| (read.segment.object, read.range().start, read.len)).collect()
}

#[test]
fn whole_segments_are_read_until_the_budget_ends_in_one() {
    let segments = segments(4, MIB);
    let plan = plan(&[hungry(0, 2 * MIB + 100_000, &segments)], 50 * MIB, 0);
    let expected = [(0, MIB), (1, MIB), (2, 100_000)].map(|(i, len)| (segments[i].object, 1_000, len));
    assert_eq!(ranges(&plan[0]), expected);
}

/// The previous segment, returned first, would alone fill the limit: a consumer at a boundary would be stuck there.
#[test]
fn at_a_boundary_the_previous_segment_is_not_read() {
    let segments = segments(3, MIB);
    let plan = plan(&[hungry(100, 10_000, &segments)], 50 * MIB, 0);
    assert_eq!(plan[0].reads.iter().map(|read| read.segment.object).collect::<Vec<_>>(), [segments[1].object]);
}

#[test]
fn the_middle_of_a_segment_is_guessed_by_proportion_or_known() {
    let segments = segments(2, 4 * MIB);
    let guess = plan(&[hungry(50, MIB, &segments)], 50 * MIB, 0);
    assert_eq!(ranges(&guess[0]), [(segments[0].object, 1_000, 3 * MIB)]);
    let known = Some(Place { position: 2 * MIB, offset: Offset(50) });
    let known = plan(&[Hungry { known, ..hungry(50, MIB, &segments) }], 50 * MIB, 0);
    assert_eq!(ranges(&known[0]), [(segments[0].object, 1_000 + 2 * MIB, MIB)]);
}

#[test]
fn a_hungry_log_leaves_the_others_their_share_and_takes_what_they_leave() {
    let (large, small) = (segments(4, 10 * MIB), segments(1, 1_000));
    let logs = [hungry(0, 40 * MIB, &large), hungry(0, 40 * MIB, &small), hungry(0, 40 * MIB, &large), hungry(0, MIB, &[])];
    let shares = |turn| plan(&logs, 9 * MIB, turn).iter().map(|plan| plan.share).collect::<Vec<_>>();
    assert_eq!(shares(0), [6 * MIB - 1_000, 1_000, 3 * MIB, 0]);
    assert_eq!(shares(2), [3 * MIB, 1_000, 6 * MIB - 1_000, 0]);
}

#[test]
fn the_first_log_with_data_is_read_even_without_a_budget() {
    let segments = segments(1, MIB);
    let plans = plan(&[hungry(0, MIB, &[]), hungry(0, 0, &segments), hungry(0, 0, &segments)], 0, 2);
    assert_eq!(plans.iter().map(|plan| plan.reads.len()).collect::<Vec<_>>(), [0, 1, 0]);
}

#[test]
fn a_batch_too_large_is_granted_if_it_fits_or_if_it_is_the_first_of_all() {
    let too_large = |index, bytes| Stalled { index, stall: Stall::TooLarge(bytes) };
    let searching = |index| Stalled { index, stall: Stall::Searching };
    assert_eq!(grants(&[too_large(1, 500), too_large(4, 10)], 0, 100, 0), [1]);
    assert_eq!(grants(&[too_large(1, 500), too_large(4, 10)], 1, 100, 0), [4]);
    assert_eq!(grants(&[searching(0), too_large(1, 500)], 0, 100, 0), [0]);
    assert_eq!(grants(&[searching(0), too_large(1, 500)], 100, 100, 1), [0]);
    assert_eq!(grants(&[too_large(0, 60), too_large(1, 60)], 30, 100, 0), [0]);
    assert_eq!(grants(&[too_large(0, 60), too_large(1, 60)], 30, 100, 1), [1]);
    assert_eq!(grants(&[], 0, 100, 1), Vec::<usize>::new());
}

#[test]
fn what_lies_ahead_begins_where_the_plan_ends() {
    let segments = segments(4, MIB);
    let log = hungry(0, MIB + 100_000, &segments);
    let plans = plan(&[log], 50 * MIB, 0);
    let at = |i: usize, start: u64, len: u64| (segments[i].object, ByteRange { start: 1_000 + start, len });
    let expected = [at(1, 100_000, MIB - 100_000), at(2, 0, MIB), at(3, 0, MIB)];
    assert_eq!(ahead(&log, &plans[0], 2 * MIB), expected, "the last one whole");
    assert_eq!(ahead(&log, &plans[0], 900_000), [at(1, 100_000, 900_000)], "one that is longer than all that was asked for is not");
}

proptest! {
    #[test]
    fn budgets_are_kept_and_every_log_gets_its_share(
        shapes in prop::collection::vec((0u64..6, 1u64..3 * MIB, 0i64..600, 0u64..2 * MIB), 1..30),
        max_bytes in 0u64..20 * MIB,
        turn: u64,
    ) {
        let stored: Vec<Vec<Segment>> = shapes.iter().map(|(count, bytes, _, _)| segments(*count, *bytes)).collect();
        let logs: Vec<Hungry<'_>> = shapes.iter().zip(&stored).map(|(shape, segments)| hungry(shape.2, shape.3, segments)).collect();
        let plans = plan(&logs, max_bytes, turn);
        let with_data: Vec<usize> = (0..logs.len()).filter(|i| logs[*i].available() > 0).collect();
        prop_assert!(plans.iter().map(|plan| plan.share).sum::<u64>() <= max_bytes + 1);
        if let Some(first) = with_data.first() {
            prop_assert!(!plans[*first].reads.is_empty());
        }
        let fair = max_bytes / with_data.len().max(1) as u64;
        for (log, plan) in logs.iter().zip(&plans) {
            prop_assert!(plan.share <= log.max_bytes.max(1));
            prop_assert!(fair < SMALLEST_SHARE || plan.share >= log.appetite().min(fair));
            for (i, read) in plan.reads.iter().enumerate() {
                prop_assert!(read.segment.last_offset >= log.from);
                prop_assert!(read.len > 0 && read.place.position + read.len <= read.segment.range.len);
                prop_assert!(i + 1 == plan.reads.len() || read.place.position + read.len == read.segment.range.len);
            }
        }
    }
}

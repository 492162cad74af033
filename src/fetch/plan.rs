//! How much of each log is read: segments and budgets in, ranges out.
//!
//! Each hungry log first gets a fair share of the request's bytes; what is left over is dealt out beginning with another log each time, so that no
//! log starves behind a hungry one even if the client never changes its order. Where in a segment an offset lies is not known before its
//! headers are read, so the plan guesses by proportion; [`grants`] says what is read again where the guess or the share was too small.

use super::batches::Place;
use crate::types::{ByteRange, ObjectId, Offset, Segment};

/// A read is never shorter than this unless its segment is: a request costs more than the bytes.
const SHORTEST_READ: u64 = 32 * 1024;
/// Logs get at least this share while the budget lasts; then the others have to wait for the next fetch.
const SMALLEST_SHARE: u64 = 16 * 1024;

/// A log that is asked for, and where its data is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hungry<'a> {
    pub from: Offset,
    /// The client's limit for this log.
    pub max_bytes: u64,
    /// In order of offsets, from the one that holds `from` or follows it.
    pub segments: &'a [Segment],
    /// A batch boundary in the first segment, at or before `from`, if one is known.
    pub known: Option<Place>,
}

/// A range of a segment that begins between two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Read {
    pub segment: Segment,
    pub place: Place,
    pub len: u64,
}

impl Read {
    /// The range in the object.
    pub(super) fn range(&self) -> ByteRange {
        ByteRange { start: self.segment.range.start + self.place.position, len: self.len }
    }

    /// A read from `place` on that reaches about `bytes` beyond `from`, and `need` bytes at least.
    pub(super) fn again(segment: Segment, place: Place, from: Offset, bytes: u64, need: u64) -> Read {
        let rest = segment.range.len.saturating_sub(place.position);
        let len = skipped(&segment, place, from).saturating_add(bytes).max(need).max(SHORTEST_READ).min(rest);
        Read { segment, place, len }
    }
}

/// What is read of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LogPlan {
    /// In order of offsets; all but the last reach to the end of their segments.
    pub reads: Vec<Read>,
    /// Bytes of batches this log may give.
    pub share: u64,
}

impl Hungry<'_> {
    /// The segments that can hold something wanted, with the place to begin at.
    fn places(&self) -> impl Iterator<Item = (Segment, Place)> {
        let wanted = self.segments.iter().filter(|s| s.last_offset >= self.from).enumerate();
        wanted.map(|(i, segment)| {
            let known = self.known.filter(|known| i == 0 && known.offset <= self.from && known.position < segment.range.len);
            (*segment, known.unwrap_or_else(|| Place::start_of(segment)))
        })
    }

    /// Bytes that can be returned, as far as segments tell: exact but for the first one.
    pub(super) fn available(&self) -> u64 {
        self.places().map(|(segment, place)| segment.range.len - place.position - skipped(&segment, place, self.from)).sum()
    }

    /// What this log could use.
    fn appetite(&self) -> u64 {
        self.available().min(self.max_bytes)
    }
}

/// How many bytes of a segment lie between `place` and the batch with `from`, by proportion; less than all that follow.
fn skipped(segment: &Segment, place: Place, from: Offset) -> u64 {
    let rest = segment.range.len.saturating_sub(place.position);
    let before = from.0.saturating_sub(place.offset.0);
    let all = segment.last_offset.0.saturating_sub(place.offset.0).saturating_add(1);
    if before <= 0 || all <= 0 {
        return 0;
    }
    let share = u128::from(rest) * u128::from(before.unsigned_abs()) / u128::from(all.unsigned_abs());
    u64::try_from(share).unwrap_or(rest).min(rest.saturating_sub(1))
}

/// Plans a fetch of `logs`, given in the client's order, within `max_bytes` in all. `turn` should differ from fetch to fetch.
pub(super) fn plan(logs: &[Hungry<'_>], max_bytes: u64, turn: u64) -> Vec<LogPlan> {
    let mut shares = deal(logs, max_bytes, turn);
    // The first log with data gives a batch whatever the limits, so it must be read.
    if let Some(first) = logs.iter().position(|log| log.available() > 0) {
        shares[first] = shares[first].max(1);
    }
    logs.iter().zip(shares).map(|(log, share)| LogPlan { reads: reads(log, share), share }).collect()
}

fn deal(logs: &[Hungry<'_>], max_bytes: u64, turn: u64) -> Vec<u64> {
    let appetites: Vec<u64> = logs.iter().map(Hungry::appetite).collect();
    let hungry = appetites.iter().filter(|appetite| **appetite > 0).count() as u64;
    let fair = (max_bytes / hungry.max(1)).max(SMALLEST_SHARE);
    let mut shares = vec![0u64; logs.len()];
    let mut left = max_bytes;
    for at_most in [fair, u64::MAX] {
        for index in rotated(logs.len(), turn) {
            let more = (appetites[index] - shares[index]).min(at_most).min(left);
            shares[index] += more;
            left -= more;
        }
    }
    shares
}

/// The numbers below `len`, from a place that `turn` decides.
fn rotated(len: usize, turn: u64) -> impl Iterator<Item = usize> {
    let start = (turn % len.max(1) as u64) as usize;
    (start..len).chain(0..start)
}

fn reads(log: &Hungry<'_>, share: u64) -> Vec<Read> {
    let mut reads = Vec::new();
    let mut left = share;
    for (segment, place) in log.places() {
        if left == 0 {
            break;
        }
        let read = Read::again(segment, place, log.from, left, 0);
        left = left.saturating_sub(read.len - skipped(&segment, place, log.from).min(read.len));
        let cut = place.position + read.len < segment.range.len;
        reads.push(read);
        if cut {
            break;
        }
    }
    reads
}

/// What a reader that goes on will want next: `bytes` of what follows the plan, and the rest of the last segment too, if that is not more again. Reads are
/// few and long then, instead of a short one for each fetch.
pub(super) fn ahead(log: &Hungry<'_>, plan: &LogPlan, bytes: u64) -> Vec<(ObjectId, ByteRange)> {
    let mut ranges = Vec::new();
    let mut left = bytes;
    for (segment, _) in log.places() {
        let read = plan.reads.iter().find(|read| read.segment.base_offset == segment.base_offset);
        let done = read.map_or(0, |read| read.place.position + read.len);
        let rest = segment.range.len - done;
        let len = if rest <= bytes { rest } else { left };
        if len > 0 {
            ranges.push((segment.object, ByteRange { start: segment.range.start + done, len }));
        }
        left = left.saturating_sub(len);
        if left == 0 {
            break;
        }
    }
    ranges
}

/// A log whose reads are over and that has given nothing yet, although it has data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stalled {
    /// Which log, in the client's order.
    pub index: usize,
    pub stall: Stall,
}

/// Why a log has given nothing yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stall {
    /// The reads ended before the wanted offset.
    Searching,
    /// The first batch to be given has this many bytes, which its share did not allow.
    TooLarge(u64),
}

/// Which of the stalled logs (in the client's order) are read on, by their index: those that have not come to their offset yet, those whose batch
/// fits into what is left of `max_bytes`, and, if nothing was `given` to any log, the client's first one whatever its size (KIP-74).
pub(super) fn grants(stalled: &[Stalled], given: u64, max_bytes: u64, turn: u64) -> Vec<usize> {
    let mut left = max_bytes.saturating_sub(given);
    let mut granted = Vec::new();
    if let Some(first) = stalled.first().filter(|_| given == 0) {
        left = left.saturating_sub(first.need());
        granted.push(first.index);
    }
    for log in rotated(stalled.len(), turn).filter_map(|i| stalled.get(i)) {
        if log.need() <= left && !granted.contains(&log.index) {
            left -= log.need();
            granted.push(log.index);
        }
    }
    granted
}

impl Stalled {
    /// What reading on takes from the budget: to search costs nothing.
    fn need(&self) -> u64 {
        match self.stall {
            Stall::Searching => 0,
            Stall::TooLarge(bytes) => bytes,
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

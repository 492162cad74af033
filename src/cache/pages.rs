//! Byte ranges as pages: aligned pieces of an object, all of one size but the last.

use std::num::NonZeroU64;
use std::ops::Range;

use bytes::Bytes;

use crate::store::slice;
use crate::types::ByteRange;

/// The number of a page within its object, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Page(pub u64);

/// How objects are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize(pub NonZeroU64);

impl PageSize {
    fn bytes(self) -> u64 {
        self.0.get()
    }

    /// The pages that `range` touches, in order; none for an empty range.
    pub fn pages(self, range: ByteRange) -> impl Iterator<Item = Page> + use<> {
        let pages = match range.len {
            0 => 0..0,
            len => range.start / self.bytes()..(range.start.saturating_add(len - 1)) / self.bytes() + 1,
        };
        pages.map(Page)
    }

    /// The bytes of neighbouring pages.
    #[must_use]
    pub fn range(self, pages: &Range<Page>) -> ByteRange {
        ByteRange { start: pages.start.0 * self.bytes(), len: (pages.end.0 - pages.start.0) * self.bytes() }
    }

    /// What `range` wants of one page, counted from the page's start.
    #[must_use]
    pub fn within(self, page: Page, range: ByteRange) -> ByteRange {
        let page_start = page.0 * self.bytes();
        let start = range.start.max(page_start);
        let end = range.start.saturating_add(range.len).min(page_start + self.bytes());
        ByteRange { start: start - page_start, len: end.saturating_sub(start) }
    }

    /// Cuts the bytes of neighbouring pages, which may end early, into pages. Shares the bytes; leaves out pages that got none.
    #[must_use]
    pub fn cut(self, pages: &Range<Page>, pieces: &[Bytes]) -> Vec<Vec<Bytes>> {
        let count = pages.end.0 - pages.start.0;
        let starts = (0..count).map(|page| page * self.bytes());
        let cut = starts.map(|start| slice(pieces, ByteRange { start, len: self.bytes() }));
        cut.take_while(|page| !page.is_empty()).collect()
    }
}

/// Puts pages, which are in ascending order, into runs of neighbours, each of at most `most` pages.
#[must_use]
pub fn runs(pages: &[Page], most: u64) -> Vec<Range<Page>> {
    runs_while(pages, |run, page| page.0 - run.start.0 < most)
}

/// Puts pages, which are in ascending order, into runs of neighbours, none of which goes beyond a chunk: `chunk` pages, aligned.
#[must_use]
pub fn chunk_runs(pages: &[Page], chunk: u64) -> Vec<Range<Page>> {
    runs_while(pages, |run, page| page.0 / chunk == run.start.0 / chunk)
}

fn runs_while(pages: &[Page], fits: impl Fn(&Range<Page>, Page) -> bool) -> Vec<Range<Page>> {
    let mut runs: Vec<Range<Page>> = Vec::new();
    for page in pages {
        let next = Page(page.0 + 1);
        match runs.last_mut() {
            Some(run) if run.end == *page && fits(run, *page) => run.end = next,
            Some(_) | None => runs.push(*page..next),
        }
    }
    runs
}

/// Adds to `pages`, which are in ascending order and all missing, their missing neighbours within their chunks of `chunk` pages.
#[must_use]
pub fn widened(pages: &[Page], chunk: u64, is_missing: impl Fn(Page) -> bool) -> Vec<Page> {
    let mut wide: Vec<Page> = Vec::new();
    for run in chunk_runs(pages, chunk) {
        let first = run.start.0 / chunk * chunk;
        let left = (first..run.start.0).rev().take_while(|page| is_missing(Page(*page))).last().unwrap_or(run.start.0);
        let right = (run.end.0..first + chunk).take_while(|page| is_missing(Page(*page))).last().map_or(run.end.0, |last| last + 1);
        wide.extend((left..right).map(Page));
    }
    // Runs of one chunk may have met.
    wide.sort_unstable();
    wide.dedup();
    wide
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn size(bytes: u64) -> PageSize {
        PageSize(NonZeroU64::new(bytes).expect("not zero"))
    }

    proptest! {
        #[test]
        fn the_pages_of_a_range_cover_it_exactly(start in 0u64..10_000, len in 0u64..5_000, bytes in 1u64..700) {
            let (size, range) = (size(bytes), ByteRange { start, len });
            let mut at = start;
            for page in size.pages(range) {
                let within = size.within(page, range);
                prop_assert!(within.len > 0 && within.end() <= bytes);
                prop_assert_eq!(page.0 * bytes + within.start, at);
                at += within.len;
            }
            prop_assert_eq!(at, range.end());
        }

        #[test]
        fn runs_hold_each_page_once_and_only_neighbours(set in prop::collection::btree_set(0u64..60, 0..40), most in 1u64..9) {
            let pages: Vec<Page> = set.into_iter().map(Page).collect();
            let runs = runs(&pages, most);
            let spread: Vec<Page> = runs.iter().flat_map(|run| (run.start.0..run.end.0).map(Page)).collect();
            prop_assert_eq!(spread, pages);
            for (run, next) in runs.iter().zip(runs.iter().skip(1)) {
                prop_assert!(run.end < next.start || run.end.0 - run.start.0 == most, "neighbours in two runs without need");
            }
            prop_assert!(runs.iter().all(|run| run.end.0 - run.start.0 <= most));
        }

        #[test]
        fn widening_adds_just_the_missing_neighbours_of_the_same_chunk(
            missing in prop::collection::btree_set(0u64..40, 0..40),
            wanted in prop::collection::btree_set(0u64..40, 0..10),
            chunk in 1u64..9,
        ) {
            let pages: Vec<Page> = wanted.intersection(&missing).copied().map(Page).collect();
            let wide = widened(&pages, chunk, |page| missing.contains(&page.0));
            // By the definition: a page is in if it is wanted, or a neighbour in its chunk that is missing is in.
            let mut expected: std::collections::BTreeSet<Page> = pages.iter().copied().collect();
            for _ in 0..chunk {
                let near = |page: u64| [page.wrapping_sub(1), page + 1].into_iter().filter(move |near| near / chunk == page / chunk);
                let more: Vec<Page> =
                    missing.iter().copied().filter(|page| near(*page).any(|near| expected.contains(&Page(near)))).map(Page).collect();
                expected.extend(more);
            }
            prop_assert_eq!(wide.clone(), expected.into_iter().collect::<Vec<_>>());
            let runs = chunk_runs(&wide, chunk);
            prop_assert_eq!(runs.iter().flat_map(|run| (run.start.0..run.end.0).map(Page)).collect::<Vec<_>>(), wide);
            prop_assert!(runs.iter().all(|run| run.start.0 / chunk == (run.end.0 - 1) / chunk));
        }

        #[test]
        fn what_is_cut_into_pages_is_what_was_loaded(len in 0usize..3_000, bytes in 1u64..500, first in 0u64..5, piece in 1usize..400) {
            let whole: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let pieces: Vec<Bytes> = whole.chunks(piece).map(Bytes::copy_from_slice).collect();
            let size = size(bytes);
            let count = (len as u64).div_ceil(bytes) + 2;
            let cut = size.cut(&(Page(first)..Page(first + count)), &pieces);
            prop_assert_eq!(cut.len() as u64, (len as u64).div_ceil(bytes));
            prop_assert_eq!(cut.iter().flatten().flatten().copied().collect::<Vec<u8>>(), whole);
            for page in cut.iter().rev().skip(1) {
                prop_assert_eq!(page.iter().map(|p| p.len() as u64).sum::<u64>(), bytes);
            }
        }
    }
}

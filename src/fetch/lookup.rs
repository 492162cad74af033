//! Offsets by time: the first record that is not older than a timestamp, and the newest record (ListOffsets).
//!
//! Segments know their largest timestamp and batches say theirs in the header, so only batches that claim to hold such a record are opened. A
//! claim can be wrong (a broker does not open what producers compress); then the search goes on behind it.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use bytes::{Bytes, BytesMut};

use super::batches::{Batch, Next, Place, Walk};
use super::serve::store_failed;
use super::{FetchError, Reader};
use crate::metastore::{MetaError, SegmentQuery};
use crate::records::batch::BatchError;
use crate::records::for_each_record;
use crate::types::{Head, Offset, Segment, Timestamp, TopicPartition};

/// Segments looked at in one statement.
const PAGE: usize = 1_000;
/// Statements of one look-up at most. Only a log whose newest records were deleted needs more than two.
const MOST_PAGES: usize = 1_000;

/// A record's offset and time.
pub(super) type Found = (Offset, Timestamp);

/// The segments of a log from some offset on, a page at a time.
struct Segments<'a> {
    reader: &'a Reader,
    log: TopicPartition,
    next: Offset,
    page: VecDeque<Segment>,
    pages_left: usize,
}

impl Reader {
    /// The first record (lowest offset) whose timestamp is at least `at`.
    ///
    /// # Errors
    /// [`FetchError::UnknownLog`], [`FetchError::Unavailable`] or [`FetchError::Corrupt`].
    pub async fn offset_for_timestamp(&self, log: TopicPartition, at: Timestamp) -> Result<Option<Found>, FetchError> {
        let head = self.head(log).await?;
        let Some(first) = self.metastore.first_segment_since(log, at).await.map_err(|e| unavailable(&e))? else { return Ok(None) };
        let mut segments = Segments::new(self, log, head.log_start.max(first.base_offset));
        while let Some(segment) = segments.next().await? {
            if segment.max_timestamp >= at
                && let Some(found) = self.first_since(&segment, at, head.log_start).await?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The record with the largest timestamp, the first of them if there are several (KIP-734); `None` if no record has one.
    ///
    /// # Errors
    /// As [`Reader::offset_for_timestamp`].
    pub async fn max_timestamp(&self, log: TopicPartition) -> Result<Option<Found>, FetchError> {
        let head = self.head(log).await?;
        let Some(newest) = self.newest_segment(log, &head).await? else { return Ok(None) };
        self.newest_in(&newest, head.log_start).await
    }

    async fn head(&self, log: TopicPartition) -> Result<Head, FetchError> {
        let heads = self.metastore.heads(&[log]).await.map_err(|e| unavailable(&e))?;
        heads.first().copied().flatten().ok_or(FetchError::UnknownLog)
    }

    /// The first segment with the largest timestamp of those that are left.
    async fn newest_segment(&self, log: TopicPartition, head: &Head) -> Result<Option<Segment>, FetchError> {
        if head.max_timestamp < Timestamp(0) || head.log_start == head.high_watermark {
            return Ok(None);
        }
        let first = self.metastore.first_segment_since(log, head.max_timestamp).await.map_err(|e| unavailable(&e))?;
        if let Some(segment) = first.filter(|s| s.max_timestamp >= head.max_timestamp && s.base_offset >= head.log_start) {
            return Ok(Some(segment));
        }
        // The newest record was deleted: only looking at every segment tells which is the newest now.
        let mut newest: Option<Segment> = None;
        let mut segments = Segments::new(self, log, head.log_start);
        while let Some(segment) = segments.next().await? {
            if newest.is_none_or(|newest| segment.max_timestamp > newest.max_timestamp) {
                newest = Some(segment);
            }
        }
        Ok(newest.filter(|segment| segment.max_timestamp >= Timestamp(0)))
    }

    async fn first_since(&self, segment: &Segment, at: Timestamp, log_start: Offset) -> Result<Option<Found>, FetchError> {
        let mut walk = self.walk(segment).await?;
        while let Next::Batch(batch) = walk.peek()? {
            if batch.last_offset < log_start || Timestamp(batch.header.max_timestamp) < at {
                walk.skip(&batch);
                continue;
            }
            let bytes = joined(&mut walk, &batch);
            let found = for_each_record(&bytes, |record| {
                let (offset, time) = (batch.base_offset.plus(record.offset_delta), record.timestamp);
                if offset >= log_start && time >= at { ControlFlow::Break((offset, time)) } else { ControlFlow::Continue(()) }
            });
            if let Some(found) = found.map_err(|e| unreadable(segment, &e))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn newest_in(&self, segment: &Segment, log_start: Offset) -> Result<Option<Found>, FetchError> {
        let mut walk = self.walk(segment).await?;
        let mut newest: Option<Found> = None;
        while let Next::Batch(batch) = walk.peek()? {
            let claimed = Timestamp(batch.header.max_timestamp);
            if batch.last_offset < log_start || newest.is_some_and(|(_, time)| claimed <= time) {
                walk.skip(&batch);
                continue;
            }
            let bytes = joined(&mut walk, &batch);
            let walked = for_each_record(&bytes, |record| -> ControlFlow<()> {
                let (offset, time) = (batch.base_offset.plus(record.offset_delta), record.timestamp);
                if offset >= log_start && newest.is_none_or(|(_, newest)| time > newest) {
                    newest = Some((offset, time));
                }
                ControlFlow::Continue(())
            });
            walked.map_err(|e| unreadable(segment, &e))?;
        }
        Ok(newest)
    }

    /// A walk over a whole segment.
    async fn walk<'a>(&self, segment: &'a Segment) -> Result<Walk<'a>, FetchError> {
        let bytes = self.server.read_range(segment.object, segment.range).await.map_err(|e| store_failed(&e))?;
        Ok(Walk::new(segment, Place::start_of(segment), bytes))
    }
}

impl<'a> Segments<'a> {
    fn new(reader: &'a Reader, log: TopicPartition, from: Offset) -> Self {
        Segments { reader, log, next: from, page: VecDeque::new(), pages_left: MOST_PAGES }
    }

    async fn next(&mut self) -> Result<Option<Segment>, FetchError> {
        if self.page.is_empty() {
            self.turn_page().await?;
        }
        Ok(self.page.pop_front())
    }

    async fn turn_page(&mut self) -> Result<(), FetchError> {
        if self.pages_left == 0 {
            return Err(FetchError::Unavailable(format!("looking for a time in {} took too long", self.log)));
        }
        self.pages_left -= 1;
        let query = SegmentQuery { log: self.log, from: self.next, max_bytes: u64::MAX >> 1, max_segments: PAGE };
        let views = self.reader.metastore.segments(&[query]).await.map_err(|e| unavailable(&e))?;
        let view = views.into_iter().next().flatten().ok_or(FetchError::UnknownLog)?;
        self.next = view.segments.last().map_or(self.next, |segment| segment.last_offset.plus(1));
        self.page = view.segments.into();
        Ok(())
    }
}

/// Takes a batch out of a walk, in one piece.
fn joined(walk: &mut Walk<'_>, batch: &Batch) -> Bytes {
    let mut bytes = BytesMut::with_capacity(batch.len);
    walk.take(batch, |piece, start, end| bytes.extend_from_slice(&piece[start..end]));
    bytes.freeze()
}

fn unavailable(error: &MetaError) -> FetchError {
    FetchError::Unavailable(error.to_string())
}

fn unreadable(segment: &Segment, error: &BatchError) -> FetchError {
    FetchError::Corrupt(format!("object {}, offsets {}..={}: {error}", segment.object, segment.base_offset, segment.last_offset))
}

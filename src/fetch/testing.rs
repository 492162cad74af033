//! A world for this room's tests: logs of batches in objects, a metastore that counts its statements, a store that can be slow or fail.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{FetchConfig, FetchLog, FetchRequest, Fetched, Reader, Watermarks};
use crate::metastore::{Decide, Log, LogView, MetaError, PendingEvents, Result, Round, RoundLimits, SegmentQuery, WriteEvent};
use crate::metrics::Metrics;
use crate::partition::ObjectVerdict;
use crate::records::batch::{BatchHeader, BatchLimits, build, check};
use crate::store::{ReadRange, StoreError};
use crate::tasks::Tasks;
use crate::types::{ByteRange, Head, ObjectId, Offset, ProducerId, Segment, Timestamp, TopicId, TopicPartition};

pub(super) fn log(partition: i32) -> TopicPartition {
    TopicPartition::new(TopicId([7; 16]), partition)
}

pub(super) fn object(number: u64) -> ObjectId {
    ObjectId(u128::from(number).to_be_bytes())
}

/// A segment of log 0 at level 0; offsets exclusive of the end.
pub(super) fn segment(number: u64, offsets: Range<i64>, bytes: Range<u64>) -> Segment {
    Segment {
        log: log(0),
        base_offset: Offset(offsets.start),
        last_offset: Offset(offsets.end - 1),
        object: object(number),
        range: ByteRange { start: bytes.start, len: bytes.end - bytes.start },
        record_count: (offsets.end - offsets.start) as u32,
        max_timestamp: Timestamp(0),
        max_timestamp_so_far: Timestamp(0),
        level: 0,
    }
}

/// Batches of some record counts and sizes, one after the other.
pub(super) fn run(batches: &[(i32, usize)]) -> Vec<u8> {
    batches.iter().flat_map(|(count, size)| build::batch(*count, *size, 1_000)).collect()
}

/// `bytes` in pieces of `len`.
pub(super) fn pieces(bytes: &[u8], len: usize) -> Vec<Bytes> {
    bytes.chunks(len.max(1)).map(Bytes::copy_from_slice).collect()
}

/// What a consumer gets from a record set: for each record its offset. Checks batches as a client does.
pub(super) fn offsets(records: &[Bytes]) -> Vec<i64> {
    let joined = records.concat();
    let mut rest = &joined[..];
    let mut offsets = Vec::new();
    while !rest.is_empty() {
        let header = BatchHeader::read(rest).expect("a whole header");
        let len = header.total_len().expect("a length");
        check(&rest[..len], &BatchLimits { max_bytes: u32::MAX, zstd: true }).expect("a good batch");
        assert_eq!(&rest[12..16], &[0; 4], "the leader epoch");
        offsets.extend((0..i64::from(header.record_count)).map(|i| header.base_offset + i));
        rest = &rest[len..];
    }
    offsets
}

#[derive(Debug, Default)]
struct TestLog {
    head: Head,
    segments: Vec<Segment>,
}

#[derive(Debug, Default)]
pub(super) struct World {
    logs: Mutex<BTreeMap<TopicPartition, TestLog>>,
    objects: Mutex<HashMap<ObjectId, Bytes>>,
    /// Statements run.
    pub statements: AtomicUsize,
    /// What was read.
    pub read: Mutex<Vec<(ObjectId, ByteRange)>>,
    /// What was announced.
    pub announced: Mutex<Vec<(ObjectId, Vec<ByteRange>)>>,
    /// Room for what is announced; `None`: no end of it.
    pub room: Mutex<Option<u64>>,
    pub down: Mutex<Option<MetaError>>,
    pub missing: Mutex<HashSet<ObjectId>>,
    /// What happens when a missing object is asked for: the log's segments point to the second of these objects instead.
    pub moves: Mutex<Vec<(ObjectId, ObjectId)>>,
    pub delay: Mutex<Duration>,
    /// How long a look-up of segments takes.
    pub look_up: Mutex<Duration>,
}

impl World {
    pub(super) fn new(partitions: i32) -> Arc<World> {
        let world = World::default();
        world.logs.lock().expect("free").extend((0..partitions).map(|p| (log(p), TestLog::default())));
        Arc::new(world)
    }

    pub(super) fn reader(self: &Arc<Self>, config: FetchConfig) -> Arc<Reader> {
        let fetch = Metrics::new().expect("metrics").fetch.clone();
        let watermarks = Arc::new(Watermarks::new());
        Arc::new(Reader::new(
            Arc::clone(self) as Arc<dyn Log>,
            Arc::clone(self) as Arc<dyn ReadRange>,
            watermarks,
            fetch,
            Tasks::new(),
            config,
        ))
    }

    /// Appends one object with a run per log, as one round would; gives the new heads.
    pub(super) fn append(&self, runs: &[(i32, Vec<u8>)]) -> Vec<(TopicPartition, Head)> {
        let mut objects = self.objects.lock().expect("free");
        let mut logs = self.logs.lock().expect("free");
        let id = object(objects.len() as u64);
        let (mut body, mut heads) = (Vec::new(), Vec::new());
        for (partition, bytes) in runs {
            let entry = logs.get_mut(&log(*partition)).expect("a log");
            let start = body.len() as u64;
            body.extend(bytes);
            entry.push(id, log(*partition), start, bytes);
            heads.push((log(*partition), entry.head));
        }
        objects.insert(id, body.into());
        heads
    }

    /// Stores an object that no segment names.
    pub(super) fn store(&self, number: u64, bytes: Vec<u8>) {
        self.objects.lock().expect("free").insert(object(number), bytes.into());
    }

    pub(super) fn body(&self, number: u64) -> Vec<u8> {
        self.objects.lock().expect("free")[&object(number)].to_vec()
    }

    /// Changes a log by hand.
    pub(super) fn edit(&self, partition: i32, change: impl FnOnce(&mut Head, &mut Vec<Segment>)) {
        let mut logs = self.logs.lock().expect("free");
        let entry = logs.entry(log(partition)).or_default();
        change(&mut entry.head, &mut entry.segments);
    }

    pub(super) fn remove(&self, partition: i32) {
        self.logs.lock().expect("free").remove(&log(partition));
    }

    pub(super) fn head(&self, partition: i32) -> Head {
        self.logs.lock().expect("free")[&log(partition)].head
    }

    /// Statements since the last call.
    pub(super) fn statements(&self) -> usize {
        self.statements.swap(0, Ordering::SeqCst)
    }

    fn statement(&self) -> Result<()> {
        self.statements.fetch_add(1, Ordering::SeqCst);
        self.down.lock().expect("free").clone().map_or(Ok(()), Err)
    }

    fn follow_moves(&self, missing: ObjectId) {
        let moves = self.moves.lock().expect("free");
        for segment in self.logs.lock().expect("free").values_mut().flat_map(|entry| &mut entry.segments) {
            if let Some((_, to)) = moves.iter().find(|(from, _)| *from == missing && segment.object == missing) {
                segment.object = *to;
            }
        }
    }
}

impl TestLog {
    fn push(&mut self, object: ObjectId, log: TopicPartition, start: u64, run: &[u8]) {
        let (mut count, mut max_timestamp, mut rest) = (0u32, Timestamp::NONE, run);
        while !rest.is_empty() {
            let header = BatchHeader::read(rest).expect("a header");
            count += header.record_count as u32;
            max_timestamp = max_timestamp.max(Timestamp(header.max_timestamp));
            rest = &rest[header.total_len().expect("a length")..];
        }
        let base_offset = self.head.high_watermark;
        self.head.high_watermark = base_offset.plus(count);
        self.head.last_stable = self.head.high_watermark;
        self.head.max_timestamp = self.head.max_timestamp.max(max_timestamp);
        self.head.bytes += run.len() as u64;
        self.segments.push(Segment {
            log,
            base_offset,
            last_offset: Offset(self.head.high_watermark.0 - 1),
            object,
            range: ByteRange { start, len: run.len() as u64 },
            record_count: count,
            max_timestamp,
            max_timestamp_so_far: self.head.max_timestamp,
            level: 0,
        });
    }

    fn view(&self, query: &SegmentQuery) -> LogView {
        let mut bytes = 0;
        let wanted = self.segments.iter().filter(|s| s.last_offset >= query.from).take(query.max_segments);
        let enough = wanted.take_while(|s| {
            let more = bytes < query.max_bytes || bytes == 0;
            bytes += s.range.len;
            more
        });
        LogView { head: self.head, segments: enough.copied().collect() }
    }
}

#[async_trait]
impl ReadRange for World {
    async fn read_range(&self, object: ObjectId, range: ByteRange) -> std::result::Result<Vec<Bytes>, StoreError> {
        let delay = *self.delay.lock().expect("free");
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        self.read.lock().expect("free").push((object, range));
        if self.missing.lock().expect("free").contains(&object) {
            self.follow_moves(object);
            return Err(StoreError::NotFound(object));
        }
        let objects = self.objects.lock().expect("free");
        let body = objects.get(&object).ok_or(StoreError::NotFound(object))?;
        if range.end() > body.len() as u64 {
            return Err(StoreError::OutOfRange { object, range });
        }
        // Pieces of an odd length, so that headers straddle them.
        let body = body.slice(range.start as usize..range.end() as usize);
        Ok((0..body.len()).step_by(1_009).map(|start| body.slice(start..body.len().min(start + 1_009))).collect())
    }

    fn will_need(&self, object: ObjectId, ranges: &[ByteRange]) {
        self.announced.lock().expect("free").push((object, ranges.to_vec()));
    }

    fn room_ahead(&self, _: ObjectId) -> u64 {
        self.room.lock().expect("free").unwrap_or(u64::MAX)
    }
}

#[async_trait]
impl Log for World {
    async fn append(&self, _: &[WriteEvent], _: [u8; 16]) -> Result<()> {
        unimplemented!("readers do not write")
    }

    async fn find_events(&self, _: &[ObjectId]) -> Result<Vec<ObjectId>> {
        unimplemented!("readers do not write")
    }

    async fn verdicts(&self, _: &[ObjectId]) -> Result<Vec<(ObjectId, ObjectVerdict)>> {
        unimplemented!("readers do not write")
    }

    async fn run_round(&self, _: RoundLimits, _: &Decide) -> Result<Round> {
        unimplemented!("readers do not write")
    }

    async fn pending_events(&self) -> Result<PendingEvents> {
        unimplemented!("readers do not write")
    }

    async fn heads(&self, logs: &[TopicPartition]) -> Result<Vec<Option<Head>>> {
        self.statement()?;
        let known = self.logs.lock().expect("free");
        Ok(logs.iter().map(|log| known.get(log).map(|entry| entry.head)).collect())
    }

    async fn segments(&self, queries: &[SegmentQuery]) -> Result<Vec<Option<LogView>>> {
        self.statement()?;
        let look_up = *self.look_up.lock().expect("free");
        if !look_up.is_zero() {
            tokio::time::sleep(look_up).await;
        }
        let known = self.logs.lock().expect("free");
        Ok(queries.iter().map(|query| known.get(&query.log).map(|entry| entry.view(query))).collect())
    }

    async fn first_segment_since(&self, log: TopicPartition, at: Timestamp) -> Result<Option<Segment>> {
        self.statement()?;
        let known = self.logs.lock().expect("free");
        Ok(known.get(&log).and_then(|entry| entry.segments.iter().find(|s| s.max_timestamp_so_far >= at)).copied())
    }

    async fn expire_producers(&self, _: Duration, _: usize) -> Result<bool> {
        unimplemented!("readers do not write")
    }

    async fn reserve_producer_ids(&self, _: u32) -> Result<ProducerId> {
        unimplemented!("readers do not write")
    }
}

/// A request for some logs by partition and offset, with a limit per log, that does not wait.
pub(super) fn request(logs: &[(i32, i64)], max_bytes: u64, per_log: u64) -> FetchRequest {
    let logs = logs.iter().map(|(p, from)| FetchLog { log: log(*p), from: Offset(*from), max_bytes: per_log }).collect();
    FetchRequest { logs, max_bytes, min_bytes: 1, max_wait: Duration::ZERO }
}

/// The offsets in each part of an answer.
pub(super) fn all_offsets(answer: &[std::result::Result<Fetched, super::FetchError>]) -> Vec<Vec<i64>> {
    answer.iter().map(|fetched| offsets(&fetched.as_ref().expect("fetched").records)).collect()
}

use std::time::Duration;

use futures_util::future::join_all;

use super::*;
use crate::clock::{RandomIds, SystemClock};
use crate::metrics::Metrics;
use crate::store::flaky::{Chances, FlakyStore, Mishap};
use crate::store::memory::MemoryStore;

const PAGE: u64 = 100;

struct Bench {
    cache: ObjectCache,
    store: Arc<FlakyStore>,
    tasks: Tasks,
}

impl Bench {
    fn new(capacity: u64) -> Bench {
        let config = CacheConfig {
            page_bytes: NonZeroU64::new(PAGE).expect("not zero"),
            get_bytes: 4 * PAGE,
            prefetched_pages: 3,
            ..CacheConfig::with_capacity(capacity)
        };
        let ids = Arc::new(RandomIds::seeded(SystemClock, 1));
        let store = Arc::new(FlakyStore::new(Arc::new(MemoryStore::new()), ids));
        let (tasks, metrics) = (Tasks::new(), Metrics::new().expect("metrics").cache.clone());
        Bench { cache: ObjectCache::new(Arc::clone(&store) as Arc<dyn ObjectStore>, None, config, tasks.clone(), metrics), store, tasks }
    }

    async fn put(&self, object: ObjectId, len: u64) {
        self.store.put(object, ObjectBody::new(vec![content(len)])).await.expect("put");
    }

    async fn read(&self, object: ObjectId, start: u64, len: u64) -> Result<Vec<u8>, StoreError> {
        self.cache.read_range(object, ByteRange { start, len }).await.map(|pieces| pieces.concat())
    }

    async fn reads_right(&self, object: ObjectId, start: u64, len: u64) {
        let read = self.read(object, start, len).await.expect("read");
        assert_eq!(read, content(start + len)[start as usize..], "{start}+{len}");
    }

    /// Until every load has ended.
    async fn settled(&self) {
        assert!(self.tasks.stop(Duration::from_secs(10)).await);
    }
}

fn content(len: u64) -> Bytes {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect::<Vec<u8>>().into()
}

fn id(number: u8) -> ObjectId {
    made(1_700_000_000_000, number)
}

/// An id as of a UUID v7 made at `millis`.
fn made(millis: u64, number: u8) -> ObjectId {
    let mut id = [number; 16];
    id[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    ObjectId(id)
}

#[tokio::test]
async fn what_was_read_once_is_read_again_without_the_store() {
    let bench = Bench::new(1 << 20);
    bench.put(id(1), 1_000).await;
    bench.reads_right(id(1), 250, 10).await;
    assert_eq!(bench.store.gets(), 1);
    bench.reads_right(id(1), 200, 100).await;
    assert_eq!(bench.store.gets(), 1);
    bench.reads_right(id(1), 299, 2).await;
    assert_eq!(bench.store.gets(), 2);
}

#[tokio::test]
async fn neighbours_are_loaded_together_and_only_what_is_missing() {
    let bench = Bench::new(1 << 20);
    bench.put(id(1), 2_000).await;
    bench.reads_right(id(1), 50, 300).await;
    assert_eq!(bench.store.gets(), 1, "pages 0 to 3 in one request");
    bench.reads_right(id(1), 0, 1_200).await;
    assert_eq!(bench.store.gets(), 3, "pages 4 to 11 in two requests of four");
    bench.reads_right(id(1), 0, 1_200).await;
    assert_eq!(bench.store.gets(), 3);
}

#[tokio::test]
async fn the_last_page_is_short_and_nothing_is_behind_it() {
    let bench = Bench::new(1 << 20);
    bench.put(id(1), 250).await;
    bench.reads_right(id(1), 0, 250).await;
    bench.reads_right(id(1), 240, 10).await;
    for (start, len) in [(0, 251), (240, 11), (250, 1), (0, 1_000), (299, 1), (300, 1), (5_000, 1)] {
        let error = bench.read(id(1), start, len).await.expect_err("beyond the end");
        assert!(matches!(error, StoreError::OutOfRange { object, .. } if object == id(1)), "{start}+{len}: {error}");
    }
    assert!(bench.read(id(1), 7, 0).await.expect("nothing").is_empty());
}

#[tokio::test]
async fn readers_of_the_same_pages_share_one_load() {
    let bench = Bench::new(1 << 20);
    bench.put(id(1), 400).await;
    // Overlapping ranges, all at once: the first wants pages 0 to 2, a later one page 3 too.
    join_all((0..50u64).map(|n| bench.reads_right(id(1), n * 3, 250))).await;
    assert_eq!(bench.store.gets(), 2);
    join_all((0..50u64).map(|n| bench.reads_right(id(1), n * 8, 1))).await;
    assert_eq!(bench.store.gets(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_page_is_loaded_once_whatever_the_readers_do() {
    let bench = Arc::new(Bench::new(1 << 20));
    bench.put(id(1), 6_400).await;
    let tasks = Tasks::new();
    for reader in 0..64u64 {
        let bench = Arc::clone(&bench);
        tasks.spawn("reader", async move {
            for step in 0..64u64 {
                // One page each, so that one request is one page.
                bench.reads_right(id(1), (step * (2 * (reader % 8) + 1) + reader) % 64 * PAGE, PAGE).await;
            }
        });
    }
    assert!(tasks.stop(Duration::from_secs(30)).await);
    assert_eq!(bench.store.gets(), 64);
}

#[tokio::test(start_paused = true)]
async fn a_load_goes_on_when_its_first_reader_goes_away() {
    let bench = Bench::new(1 << 20);
    bench.put(id(1), 100).await;
    bench.store.set_chances(Chances { delay: 1_000, longest_delay: Duration::from_mins(1), ..Default::default() });
    let impatient = tokio::time::timeout(Duration::from_millis(1), bench.read(id(1), 0, 10));
    let (impatient, patient) = futures_util::future::join(impatient, bench.read(id(1), 5, 10)).await;
    assert!(impatient.is_err());
    assert_eq!(patient.expect("read"), content(15)[5..]);
    assert_eq!(bench.store.gets(), 1);
}

#[tokio::test]
async fn a_failure_is_told_to_all_who_wait_and_is_not_kept() {
    let bench = Bench::new(1 << 20);
    bench.put(id(1), 100).await;
    bench.store.next_gets(1, Mishap::ErrorBefore);
    let reads = join_all((0..5).map(|_| bench.read(id(1), 0, 100))).await;
    assert!(reads.iter().all(|read| matches!(read, Err(StoreError::Unavailable(_)))), "{reads:?}");
    bench.reads_right(id(1), 0, 100).await;
    assert_eq!(bench.store.gets(), 2);
    assert!(matches!(bench.read(id(2), 0, 1).await, Err(StoreError::NotFound(_))));
    bench.put(id(2), 100).await;
    bench.reads_right(id(2), 0, 100).await;
}

#[tokio::test]
async fn an_object_that_was_inserted_is_read_without_the_store_and_without_a_copy() {
    let bench = Bench::new(1 << 20);
    let (first, second) = (content(150), Bytes::from_static(b"and more"));
    bench.cache.insert(id(1), ObjectBody::new(vec![first.clone(), Bytes::new(), second.clone()])).await;
    let pieces = bench.cache.read_range(id(1), ByteRange { start: 140, len: 13 }).await.expect("read");
    assert_eq!(pieces, [first.slice(140..), second.slice(..3)]);
    assert_eq!((pieces[0].as_ptr(), pieces[1].as_ptr()), (first[140..].as_ptr(), second.as_ptr()));
    let error = bench.read(id(1), 150, 9).await.expect_err("beyond the end");
    assert!(matches!(error, StoreError::OutOfRange { .. }), "{error}");
    bench.cache.will_need(id(1), &[ByteRange { start: 0, len: 150 }]);
    bench.settled().await;
    assert_eq!(bench.store.gets(), 0);
}

#[tokio::test]
async fn the_least_recently_used_goes_when_there_is_no_room() {
    let bench = Bench::new(10 * 1024);
    for number in 0..100 {
        bench.put(id(number), PAGE).await;
        bench.reads_right(id(number), 0, PAGE).await;
        // The first stays in use.
        bench.reads_right(id(0), 0, PAGE).await;
        bench.cache.entries.tidy().await;
        assert!(bench.cache.bytes() <= 10 * 1024, "{}", bench.cache.bytes());
    }
    let before = bench.store.gets();
    bench.reads_right(id(0), 0, PAGE).await;
    bench.reads_right(id(99), 0, PAGE).await;
    assert_eq!(bench.store.gets(), before, "what was used last is still there");
    bench.reads_right(id(1), 0, PAGE).await;
    assert_eq!(bench.store.gets(), before + 1, "what was not used for long is gone");
}

#[tokio::test]
async fn reading_history_does_not_push_out_what_is_recent() {
    let bench = Bench::new(20 * 1024);
    let (now, long_ago) = (1_700_000_000_000, 1_600_000_000_000);
    bench.put(made(now, 1), PAGE).await;
    bench.cache.insert(made(now, 2), ObjectBody::new(vec![content(PAGE)])).await;
    bench.reads_right(made(now, 1), 0, PAGE).await;
    for number in 0..200 {
        bench.put(made(long_ago, number), PAGE).await;
        bench.reads_right(made(long_ago, number), 0, PAGE).await;
        bench.cache.entries.tidy().await;
    }
    let before = bench.store.gets();
    bench.reads_right(made(now, 1), 0, PAGE).await;
    bench.reads_right(made(now, 2), 0, PAGE).await;
    bench.reads_right(made(long_ago, 199), 0, PAGE).await;
    assert_eq!(bench.store.gets(), before);
}

#[tokio::test]
async fn what_will_be_needed_is_there_when_it_is() {
    let bench = Bench::new(1 << 20);
    bench.put(id(1), 1_000).await;
    let (first, beside_it) = (ByteRange { start: 150, len: 80 }, ByteRange { start: 230, len: 120 });
    bench.cache.will_need(id(1), &[beside_it, first]);
    bench.settled().await;
    assert_eq!(bench.store.gets(), 1, "pages 1 to 3, of which both want the second, in one request");
    bench.reads_right(id(1), 150, 200).await;
    assert_eq!(bench.store.gets(), 1);
}

#[tokio::test(start_paused = true)]
async fn only_so_much_is_loaded_in_advance_and_readers_share_it() {
    let bench = Bench::new(1 << 20);
    bench.put(id(1), 2_000).await;
    bench.store.next_gets(1, Mishap::Hang);
    bench.cache.will_need(id(1), &[ByteRange { start: 0, len: 2_000 }]);
    bench.cache.will_need(id(1), &[ByteRange { start: 0, len: 2_000 }]);
    // Three pages are the limit, and they hang: the rest of the wish was dropped.
    bench.reads_right(id(1), 300, 100).await;
    assert_eq!(bench.store.gets(), 2);
    let waits = tokio::time::timeout(Duration::from_hours(1), bench.read(id(1), 200, 1)).await;
    assert!(waits.is_err(), "the third page is on its way and not asked for again");
    assert_eq!(bench.store.gets(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_takes_no_room_of_what_is_not() {
    let bench = Bench::new(1 << 20);
    bench.put(id(1), 1_000).await;
    bench.store.next_gets(1, Mishap::Hang);
    bench.cache.will_need(id(1), &[ByteRange { start: 0, len: 100 }]);
    bench.cache.will_need(id(1), &[ByteRange { start: 0, len: 300 }]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.store.gets(), 2);
    bench.reads_right(id(1), 100, 200).await;
    assert_eq!(bench.store.gets(), 2, "of three pages one hangs: there was room for two");
}

#[tokio::test]
async fn there_is_room_ahead_for_half_of_what_is_kept_of_that_age() {
    let bench = Bench::new(1 << 20);
    assert_eq!(bench.cache.room_ahead(id(1)), (1 << 20) * 3 / 8, "nothing is known to be younger");
    bench.cache.insert(made(1_700_000_600_000, 2), ObjectBody::new(vec![content(10)])).await;
    assert_eq!(bench.cache.room_ahead(id(1)), (1 << 20) / 8);
    assert_eq!(bench.cache.room_ahead(made(1_700_000_600_000, 3)), (1 << 20) * 3 / 8);
}

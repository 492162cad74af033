//! How fast a metastore is. Not a test: prints figures.
//!
//! `YAKS_TEST_POSTGRES_FSYNC=on cargo test --release --lib metastore::contract::figures -- --ignored --nocapture --test-threads=1`

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::scene::{LIMITS, append, event, from, plain, round, rules, stamped, topic};
use super::{Backend, Postgres, Sqlite};
use crate::metastore::{Metastore, Round, SegmentQuery, WriteEvent};
use crate::types::{BatchSummary, Offset, Timestamp, TopicId, TopicPartition};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn sqlite() {
    figures("SQLite", &Sqlite::fresh().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn postgres() {
    figures("Postgres", &Postgres::fresh().await).await;
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!("  {what:<58} p50 {:8.2} ms   p99 {:8.2} ms   ({} times)", at(0.5), at(0.99), times.len());
}

/// One object with a run in each of `partitions`.
fn wide(number: u32, id: TopicId, partitions: i32, batch: impl Fn() -> BatchSummary) -> WriteEvent {
    event(number, (0..partitions).map(|p| (TopicPartition::new(id, p), vec![batch()])))
}

async fn figures(name: &str, backend: &dyn Backend) {
    let metastore = backend.metastore();
    println!("{name}");
    small_rounds(&metastore, topic(&metastore, 1, 4).await).await;
    large_rounds(&metastore, topic(&metastore, 2, 300).await).await;
    backlog(&metastore, topic(&metastore, 3, 300).await).await;
    reading(&metastore, TopicId([3; 16])).await;
    appending(&metastore, topic(&metastore, 4, 288).await).await;
    long_log(&metastore, topic(&metastore, 5, 1).await).await;
}

async fn small_rounds(metastore: &Arc<dyn Metastore>, id: TopicId) {
    let (mut appends, mut rounds, mut idle) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..1000 {
        let event = event(number, (0..4).map(|p| (TopicPartition::new(id, p), vec![stamped(i64::from(p), number as i32, 1)])));
        let start = Instant::now();
        append(metastore, &[event]).await;
        let appended = Instant::now();
        round(metastore).await;
        let done = Instant::now();
        round(metastore).await;
        appends.push(appended - start);
        rounds.push(done - appended);
        idle.push(done.elapsed());
    }
    print("append one event (4 runs)", appends);
    print("event committed to round committed (4 runs, 4 producers)", rounds);
    print("idle round", idle);
}

async fn large_rounds(metastore: &Arc<dyn Metastore>, id: TopicId) {
    let mut rounds = Vec::new();
    for number in 0..20 {
        for object in 0..20 {
            append(metastore, &[wide(10_000 + 100 * number + object, id, 300, || plain(10))]).await;
        }
        let start = Instant::now();
        assert_eq!(round(metastore).await.segments.len(), 6000);
        rounds.push(start.elapsed());
    }
    print("round of 6,000 runs (20 objects x 300 partitions)", rounds);
}

async fn backlog(metastore: &Arc<dyn Metastore>, id: TopicId) {
    for number in 0..1000 {
        append(metastore, &[wide(100_000 + number, id, 300, || plain(10))]).await;
    }
    let (start, mut segments, mut rounds) = (Instant::now(), 0, 0);
    loop {
        let report = round(metastore).await;
        if report.events == 0 {
            break;
        }
        segments += report.segments.len();
        rounds += 1;
    }
    let took = start.elapsed().as_secs_f64();
    println!("  backlog of {segments} runs: {rounds} rounds, {took:.2} s, {:.0} runs/s", segments as f64 / took);
}

async fn reading(metastore: &Arc<dyn Metastore>, id: TopicId) {
    let query = |p: i32, offset: i64| SegmentQuery { max_bytes: 1 << 20, max_segments: 64, ..from(TopicPartition::new(id, p), offset) };
    let (mut one, mut many, mut tail, mut since) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for i in 0..200i64 {
        let start = Instant::now();
        metastore.segments(&[query((i % 300) as i32, i * 40)]).await.expect("read");
        one.push(start.elapsed());
        let queries: Vec<_> = (0..300).map(|p| query(p, i * 40)).collect();
        let start = Instant::now();
        metastore.segments(&queries).await.expect("read");
        many.push(start.elapsed());
        let queries: Vec<_> = (0..300).map(|p| query(p, 9_990)).collect();
        let start = Instant::now();
        metastore.segments(&queries).await.expect("read");
        tail.push(start.elapsed());
        let start = Instant::now();
        metastore.first_segment_since(TopicPartition::new(id, (i % 300) as i32), Timestamp(1_000)).await.expect("searched");
        since.push(start.elapsed());
    }
    print("segments: 1 query, 64 rows", one);
    print("segments: 300 queries, 64 rows each", many);
    print("segments: 300 queries at the end of their logs", tail);
    print("first segment since a time, log of 1,000 segments", since);
}

/// A log of a million segments: what a look-up costs at its beginning and at its end.
async fn long_log(metastore: &Arc<dyn Metastore>, id: TopicId) {
    let log = TopicPartition::new(id, 0);
    for thousand in 0..1_000 {
        let events: Vec<_> = (0..1_000).map(|n| event(10_000_000 + thousand * 1_000 + n, [(log, vec![plain(1)])])).collect();
        append(metastore, &events).await;
        assert_eq!(round(metastore).await.segments.len(), 1_000);
    }
    for (what, offset) in [("a million segments: look-up from offset 0", 0), ("a million segments: look-up at the end", 999_999)] {
        let mut times = Vec::new();
        for _ in 0..200 {
            let start = Instant::now();
            let views =
                metastore.segments(&[SegmentQuery { max_bytes: 1 << 20, max_segments: 64, ..from(log, offset) }]).await.expect("read");
            times.push(start.elapsed());
            let view = views[0].as_ref().expect("a log");
            assert_eq!((view.head.high_watermark, view.segments[0].base_offset), (Offset(1_000_000), Offset(offset)));
        }
        print(what, times);
    }
}

async fn appending(metastore: &Arc<dyn Metastore>, id: TopicId) {
    for writers in [1, 8] {
        let start = Instant::now();
        let tasks: Vec<_> = (0..writers)
            .map(|writer| {
                let metastore = Arc::clone(metastore);
                tokio::spawn(async move {
                    for number in 0..200 {
                        append(&metastore, &[wide(1_000_000 * writers + 10_000 * writer + number, id, 288, || plain(10))]).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("joined");
        }
        let per_second = f64::from(200 * writers) / start.elapsed().as_secs_f64();
        println!("  append events of 288 runs, {writers} at a time: {per_second:.0}/s");
        while matches!(metastore.run_round(LIMITS, &rules()).await, Ok(Round::Done(report)) if report.more) {}
    }
}

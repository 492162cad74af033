use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::fetch::testing::{World, log};
use crate::types::{Offset, Timestamp};

const SOON: Duration = Duration::from_millis(1);

fn head(high_watermark: i64, bytes: u64) -> Head {
    Head { high_watermark: Offset(high_watermark), last_stable: Offset(high_watermark), bytes, ..Head::default() }
}

/// True if the wait is over now.
async fn is_over(waiting: &Waiting) -> bool {
    let deadline = Instant::now() + SOON;
    waiting.until(deadline).await;
    Instant::now() < deadline
}

#[tokio::test(start_paused = true)]
async fn a_waiter_wakes_when_its_logs_together_have_brought_enough() {
    let board = Arc::new(Watermarks::new());
    board.publish(&[(log(0), head(10, 1_000)), (log(1), head(5, 500))]);
    let waiting = board.wait_for(&[(log(0), head(10, 1_000)), (log(1), head(5, 500))], 100);
    board.publish(&[(log(0), head(12, 1_060)), (log(2), head(9, 9_000))]);
    assert!(!is_over(&waiting).await, "60 bytes, and others that do not count");
    board.publish(&[(log(0), head(12, 1_060))]);
    assert!(!is_over(&waiting).await, "the same news again");
    board.publish(&[(log(1), head(6, 540))]);
    assert!(is_over(&waiting).await);
}

#[tokio::test(start_paused = true)]
async fn what_came_between_looking_and_waiting_counts() {
    let board = Arc::new(Watermarks::new());
    board.publish(&[(log(0), head(11, 1_100))]);
    assert!(is_over(&board.wait_for(&[(log(0), head(10, 1_000))], 100)).await);
    assert!(!is_over(&board.wait_for(&[(log(0), head(10, 1_000)), (log(0), head(10, 1_000))], 101)).await, "counted once");
}

#[tokio::test(start_paused = true)]
async fn knowledge_never_goes_back() {
    let board = Watermarks::new();
    let newer = Head { log_start: Offset(2), max_timestamp: Timestamp(5), ..head(10, 100) };
    board.publish(&[(log(0), newer)]);
    board.publish(&[(log(0), Head { max_timestamp: Timestamp(9), ..head(7, 70) })]);
    assert_eq!(board.known(log(0)), Some(Head { max_timestamp: Timestamp(9), ..newer }));
    assert_eq!(board.known(log(1)), None);
}

#[tokio::test(start_paused = true)]
async fn knowledge_is_fresh_until_it_is_old_or_doubted() {
    let board = Watermarks::new();
    let second = Duration::from_secs(1);
    board.publish(&[(log(0), head(1, 1))]);
    assert_eq!(board.fresh(log(0), second), Some(head(1, 1)));
    tokio::time::advance(second).await;
    assert_eq!(board.fresh(log(0), second), None);
    let asked_at = Instant::now();
    tokio::time::advance(SOON).await;
    board.changed_unknown();
    board.learn(&[(log(0), head(1, 1))], asked_at);
    assert_eq!(board.fresh(log(0), second), None, "asked before the doubt");
    tokio::time::advance(SOON).await;
    board.publish(&[(log(0), head(1, 1))]);
    assert_eq!(board.fresh(log(0), second), Some(head(1, 1)));
}

#[tokio::test(start_paused = true)]
async fn deleted_topics_and_the_end_of_the_agent_wake_those_who_wait() {
    let board = Arc::new(Watermarks::new());
    let other = TopicPartition::new(TopicId([9; 16]), 0);
    let waiting = board.wait_for(&[(log(0), head(1, 1))], 1);
    let elsewhere = board.wait_for(&[(other, head(1, 1))], 1);
    board.forget(log(0).topic);
    assert!(is_over(&waiting).await);
    assert!(!is_over(&elsewhere).await);
    assert_eq!(board.known(log(0)), None);
    board.stop_waiting();
    assert!(is_over(&elsewhere).await);
    assert!(is_over(&board.wait_for(&[(other, head(1, 1))], 1)).await, "nobody waits any more");
}

#[tokio::test(start_paused = true)]
async fn logs_that_nobody_uses_are_dropped_and_waiters_leave_nothing_behind() {
    let board = Arc::new(Watermarks::new());
    board.publish(&[(log(0), head(1, 1)), (log(1), head(1, 1)), (log(2), head(1, 1))]);
    let waiting = board.wait_for(&[(log(1), head(1, 1))], 1);
    tokio::time::advance(KEEP / 2).await;
    assert!(board.fresh(log(2), KEEP).is_some());
    tokio::time::advance(KEEP / 2).await;
    board.publish(&[(log(3), head(1, 1))]);
    assert_eq!([0, 1, 2, 3].map(|p| board.known(log(p)).is_some()), [false, true, true, true]);
    drop(waiting);
    assert!(board.board().waiters.is_empty());
    tokio::time::advance(KEEP).await;
    board.publish(&[]);
    assert!(board.board().logs.is_empty());
}

#[tokio::test(start_paused = true)]
async fn lost_announcements_are_found_by_one_statement_for_all() {
    let world = World::new(50);
    let board = Arc::new(Watermarks::new());
    let tasks = Tasks::new();
    let unheard = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&unheard);
    let looked: Looked = Arc::new(move |records| {
        count.fetch_add(records, Ordering::SeqCst);
    });
    board.spawn_refresh(&tasks, &(Arc::clone(&world) as Arc<dyn Log>), Duration::from_millis(500), looked);
    let waiting: Vec<Waiting> = (0..50).map(|p| board.wait_for(&[(log(p), head(0, 0))], 1)).collect();
    world.append(&[(7, vec_of_one_batch())]);
    let began = Instant::now();
    waiting[7].until(began + Duration::from_mins(1)).await;
    assert!(began.elapsed() <= Duration::from_secs(1), "after {:?}", began.elapsed());
    assert!(!is_over(&waiting[8]).await);
    assert_eq!(unheard.load(Ordering::SeqCst), 1, "one record nobody had told of");
    assert!(world.statements() <= 2);
    world.remove(9);
    waiting[9].until(began + Duration::from_mins(1)).await;
    assert!(began.elapsed() <= Duration::from_secs(2), "a deleted log wakes too");
    assert!(tasks.stop(Duration::from_secs(1)).await);
}

#[tokio::test(start_paused = true)]
async fn doubt_is_looked_into_at_once_and_only_for_what_is_waited_for() {
    let world = World::new(2);
    let board = Arc::new(Watermarks::new());
    let tasks = Tasks::new();
    board.spawn_refresh(&tasks, &(Arc::clone(&world) as Arc<dyn Log>), Duration::from_hours(1), Arc::new(|_| {}));
    tokio::time::sleep(SOON).await;
    board.changed_unknown();
    tokio::time::sleep(SOON).await;
    assert_eq!(world.statements.load(Ordering::SeqCst), 0, "nobody waits");
    let waiting = board.wait_for(&[(log(1), head(0, 0))], 1);
    world.append(&[(1, vec_of_one_batch())]);
    tokio::time::sleep(SOON).await;
    board.changed_unknown();
    assert!(is_over(&waiting).await);
    assert_eq!(world.statements(), 1);
    assert!(tasks.stop(Duration::from_secs(1)).await);
}

fn vec_of_one_batch() -> Vec<u8> {
    crate::fetch::testing::run(&[(1, 10)])
}

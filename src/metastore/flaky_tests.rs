use bytes::Bytes;

use super::*;
use crate::clock::{RandomIds, SystemClock};
use crate::metastore::contract::scene::WRITER;
use crate::metastore::memory::MemoryMetastore;

fn flaky(seed: u64, odds: Odds) -> Flaky {
    let memory = Arc::new(MemoryMetastore::new(Arc::new(SystemClock)));
    Flaky::new(memory, Arc::new(RandomIds::seeded(SystemClock, seed))).with_all_odds(odds)
}

fn event(number: u8) -> WriteEvent {
    WriteEvent { object: ObjectId([number; 16]), node: NodeId(0), object_bytes: 1, index: Bytes::new(), inlined: None }
}

#[tokio::test]
async fn it_did_not_happen_before_and_it_did_after() {
    let before = flaky(1, Odds { before: 1000, ..Odds::default() });
    assert!(matches!(before.append(&[event(1)], WRITER).await, Err(MetaError::Unavailable(_))));
    assert_eq!(before.inner.pending_events().await.expect("counted").count, 0);
    let after = flaky(1, Odds { after: 1000, ..Odds::default() });
    assert!(matches!(after.append(&[event(1)], WRITER).await, Err(MetaError::Indeterminate(_))));
    assert_eq!(after.inner.pending_events().await.expect("counted").count, 1);
    assert!(matches!(after.pending_events().await, Err(MetaError::Unavailable(_))));
}

#[tokio::test]
async fn a_seed_can_be_replayed() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let flaky = flaky(7, Odds { before: 300, after: 300, ..Odds::default() });
        let mut outcomes = Vec::new();
        for number in 0..50 {
            outcomes.push(flaky.append(&[event(number)], WRITER).await.map_err(|e| e.to_string()));
        }
        let written = outcomes.iter().flatten().count();
        assert!((1..50).contains(&written), "{written} of 50 were written");
        runs.push(outcomes);
    }
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test(start_paused = true)]
async fn delays_pass_in_tokio_time_and_switches_work() {
    let flaky = flaky(3, Odds { delay: 1000, max_delay: Duration::from_hours(1), ..Odds::default() });
    let start = tokio::time::Instant::now();
    flaky.append(&[event(1)], WRITER).await.expect("only slow");
    assert!(start.elapsed() > Duration::ZERO);
    flaky.switch_off();
    assert!(matches!(flaky.check().await, Err(MetaError::Unavailable(_))));
    flaky.switch_on();
    flaky.check().await.expect("up again");
}

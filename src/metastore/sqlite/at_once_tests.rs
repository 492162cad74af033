use std::sync::Arc;
use std::time::Duration;

use super::super::{SqliteConfig, SqliteMetastore};
use crate::metastore::contract::scene::{
    ManualClock, PARK_FOR, append, at, object, plain, round, rules, single, stamped, topic, verdicts, whole_log,
};
use crate::metastore::{DecideTrim, Metastore, PendingEvents};
use crate::partition::{BatchVerdict, RejectReason, TrimTo, trim};
use crate::types::{Offset, TopicPartition};

struct Scene {
    metastore: Arc<dyn Metastore>,
    clock: Arc<ManualClock>,
    log: TopicPartition,
    directory: tempfile::TempDir,
}

async fn open(directory: &tempfile::TempDir, clock: &Arc<ManualClock>) -> Arc<dyn Metastore> {
    let opened = SqliteMetastore::open(SqliteConfig::new(directory.path()), Arc::clone(clock) as _).await;
    Arc::new(opened.expect("opened").deciding_at_once(rules()))
}

impl Scene {
    async fn new() -> Scene {
        let (directory, clock) = (tempfile::tempdir().expect("a directory"), Arc::new(ManualClock::default()));
        let metastore = open(&directory, &clock).await;
        metastore.migrate().await.expect("migrated");
        let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
        Scene { metastore, clock, log, directory }
    }

    /// As it is once a round has seen that nothing waits.
    async fn settled() -> Scene {
        let scene = Scene::new().await;
        assert_eq!(round(&scene.metastore).await.events, 0);
        scene
    }
}

async fn pending(metastore: &Arc<dyn Metastore>) -> PendingEvents {
    metastore.pending_events().await.expect("counted")
}

#[tokio::test]
async fn what_is_appended_is_decided_and_the_next_round_tells_all_of_it() {
    let Scene { metastore, log, directory: _keep, .. } = Scene::settled().await;
    append(&metastore, &[single(1, log, plain(2)), single(2, log, plain(1))]).await;
    append(&metastore, &[single(3, log, plain(1))]).await;
    assert_eq!(pending(&metastore).await, PendingEvents::default());
    for (number, offset) in [(1, 0), (2, 2), (3, 3)] {
        assert_eq!(verdicts(&metastore, number).await, Some(vec![at(offset)]));
    }
    assert_eq!(metastore.find_events(&[object(3), object(4)]).await.expect("found"), [object(3)]);
    let report = round(&metastore).await;
    assert_eq!((report.events, report.segments.len(), report.verdicts.len(), report.more), (3, 3, 3, false));
    assert_eq!(report.heads.iter().map(|(log, head)| (*log, head.high_watermark.0)).collect::<Vec<_>>(), [(log, 4)]);
    assert_eq!(round(&metastore).await.events, 0);
    assert_eq!(whole_log(&metastore, log).await.len(), 3);
}

#[tokio::test]
async fn nothing_overtakes_an_event_that_waits() {
    let Scene { metastore, log, directory, clock } = Scene::new().await;
    append(&metastore, &[single(1, log, plain(1))]).await;
    append(&metastore, &[single(2, log, plain(1))]).await;
    assert_eq!((pending(&metastore).await.count, verdicts(&metastore, 1).await), (2, None));
    // As after a restart: what waits in the file is decided first.
    metastore.close().await;
    drop(metastore);
    let metastore = open(&directory, &clock).await;
    append(&metastore, &[single(3, log, plain(1))]).await;
    assert_eq!(round(&metastore).await.events, 3);
    append(&metastore, &[single(4, log, plain(1))]).await;
    let objects: Vec<_> = whole_log(&metastore, log).await.iter().map(|segment| segment.object).collect();
    assert_eq!(objects, [1, 2, 3, 4].map(object));
}

#[tokio::test]
async fn a_batch_that_came_early_waits_and_the_rest_goes_the_usual_way() {
    let Scene { metastore, log, directory: _keep, .. } = Scene::settled().await;
    append(&metastore, &[single(1, log, stamped(7, 0, 1)), single(2, log, stamped(7, 2, 1))]).await;
    assert_eq!(verdicts(&metastore, 2).await, Some(vec![BatchVerdict::Parked]));
    assert_eq!(round(&metastore).await.next_due, Some(PARK_FOR));
    append(&metastore, &[single(3, log, stamped(7, 1, 1))]).await;
    assert_eq!(pending(&metastore).await.count, 1, "what is parked is for a round");
    let report = round(&metastore).await;
    assert_eq!((report.events, report.next_due), (1, None));
    assert_eq!(verdicts(&metastore, 2).await, Some(vec![at(2)]));
    // And as before once nothing is parked.
    append(&metastore, &[single(4, log, stamped(7, 3, 1))]).await;
    assert_eq!((pending(&metastore).await.count, verdicts(&metastore, 4).await), (0, Some(vec![at(3)])));
}

#[tokio::test]
async fn waiting_ends_at_the_deadline() {
    let Scene { metastore, log, clock, directory: _keep } = Scene::settled().await;
    append(&metastore, &[single(1, log, stamped(7, 0, 1)), single(2, log, stamped(7, 5, 1))]).await;
    assert_eq!(round(&metastore).await.verdicts.len(), 2);
    clock.advance(PARK_FOR + Duration::from_millis(1));
    let report = round(&metastore).await;
    assert_eq!((report.verdicts.len(), report.next_due), (1, None));
    assert!(matches!(verdicts(&metastore, 2).await.as_deref(), Some([BatchVerdict::Rejected(_)])));
}

#[tokio::test]
async fn an_object_that_comes_twice_is_in_the_log_once() {
    let Scene { metastore, log, directory: _keep, .. } = Scene::settled().await;
    append(&metastore, &[single(1, log, plain(1))]).await;
    for events in [&[1][..], &[2, 1], &[3, 3]] {
        append(&metastore, &events.iter().map(|number| single(*number, log, plain(1))).collect::<Vec<_>>()).await;
        // So that the next one is decided at once again.
        while round(&metastore).await.events > 0 {}
        round(&metastore).await;
    }
    assert_eq!(pending(&metastore).await.count, 0);
    let objects: Vec<_> = whole_log(&metastore, log).await.iter().map(|segment| segment.object).collect();
    assert_eq!(objects, [1, 2, 3].map(object));
}

/// What is remembered from one append to the next must not outlive a change by somebody else.
#[tokio::test]
async fn what_others_change_is_known_to_the_next_append() {
    let Scene { metastore, log, clock, directory: _keep } = Scene::settled().await;
    append(&metastore, &[single(1, log, stamped(7, 0, 2))]).await;
    append(&metastore, &[single(2, log, stamped(7, 2, 2))]).await;
    let decide: DecideTrim = Arc::new(trim);
    let trimmed = metastore.trim_logs(&[(log, TrimTo::Offset(Offset(3)))], &decide).await.expect("trimmed");
    assert!(matches!(trimmed[..], [Some(Ok(_))]), "{trimmed:?}");
    append(&metastore, &[single(3, log, stamped(7, 4, 1))]).await;
    assert_eq!(verdicts(&metastore, 3).await, Some(vec![at(4)]));
    let told: Vec<_> = round(&metastore).await.heads.iter().map(|(_, head)| (head.log_start.0, head.high_watermark.0)).collect();
    assert_eq!(told, [(3, 5)]);
    clock.advance(Duration::from_secs(2));
    metastore.expire_producers(Duration::from_secs(1), 10).await.expect("expired");
    // What would have come before is a beginning, now that the producer is not known any more.
    append(&metastore, &[single(4, log, stamped(7, 0, 1))]).await;
    round(&metastore).await;
    assert_eq!(verdicts(&metastore, 4).await, Some(vec![at(5)]));
    metastore.delete_topic(log.topic).await.expect("deleted");
    append(&metastore, &[single(5, log, plain(1))]).await;
    round(&metastore).await;
    assert_eq!(verdicts(&metastore, 5).await, Some(vec![BatchVerdict::Rejected(RejectReason::UnknownLog)]));
}

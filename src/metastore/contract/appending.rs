//! Write events until a round takes them.

use std::time::Duration;

use bytes::Bytes;

use super::Backend;
use super::scene::{WRITER, append, at, object, plain, round, single, topic, verdicts, whole_log};
use crate::metastore::{PendingEvents, WriteEvent};
use crate::types::TopicPartition;

pub(super) async fn events_are_pending_until_a_round(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    let asked = [object(3), object(1), object(9), object(2)];
    assert_eq!(metastore.find_events(&asked).await.expect("found"), []);
    append(&metastore, &[]).await;
    append(&metastore, &[single(1, log, plain(1)), single(2, log, plain(1))]).await;
    append(&metastore, &[single(3, log, plain(1))]).await;
    let pending = metastore.pending_events().await.expect("counted");
    assert!(pending.count == 3 && pending.oldest.is_some_and(|age| age < Duration::from_mins(1)), "{pending:?}");
    assert_eq!(verdicts(&metastore, 1).await, None);
    let mut found = metastore.find_events(&asked).await.expect("found");
    found.sort();
    assert_eq!(found, [object(1), object(2), object(3)]);
    round(&metastore).await;
    assert_eq!(metastore.pending_events().await.expect("counted"), PendingEvents::default());
    let mut found = metastore.find_events(&asked).await.expect("found");
    found.sort();
    assert_eq!(found, [object(1), object(2), object(3)]);
    for number in 1..=3 {
        assert_eq!(verdicts(&metastore, number).await, Some(vec![at(i64::from(number) - 1)]));
    }
}

pub(super) async fn an_object_has_one_event(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    let (first, second) = (single(1, log, plain(1)), single(2, log, plain(1)));
    append(&metastore, &[first.clone(), first.clone()]).await;
    append(&metastore, &[second.clone(), first]).await;
    assert_eq!(metastore.pending_events().await.expect("counted").count, 2);
    // From many sides at once, as retries after an unknown outcome may come.
    let other = backend.another().await;
    let (a, b) = tokio::join!(other.append(std::slice::from_ref(&second), WRITER), metastore.append(std::slice::from_ref(&second), WRITER));
    a.and(b).expect("appended");
    assert_eq!(round(&metastore).await.events, 2);
    assert_eq!(whole_log(&metastore, log).await.len(), 2);
}

pub(super) async fn an_object_that_was_decided_has_one_event(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    append(&metastore, &[single(1, log, plain(1))]).await;
    round(&metastore).await;
    append(&metastore, &[single(1, log, plain(1)), single(2, log, plain(1))]).await;
    assert_eq!(metastore.pending_events().await.expect("counted").count, 1);
    round(&metastore).await;
    assert_eq!(verdicts(&metastore, 1).await, Some(vec![at(0)]));
    assert_eq!(verdicts(&metastore, 2).await, Some(vec![at(1)]));
    assert_eq!(whole_log(&metastore, log).await.len(), 2);
}

pub(super) async fn what_cannot_be_read_is_set_aside(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    let garbage = |number| WriteEvent { index: Bytes::from_static(b"\xffgarbage"), ..single(number, log, plain(1)) };
    append(&metastore, &[garbage(1), single(2, log, plain(1)), garbage(3)]).await;
    let report = round(&metastore).await;
    assert_eq!((report.events, report.segments.len()), (3, 1));
    assert_eq!(verdicts(&metastore, 2).await, Some(vec![at(0)]));
    assert_eq!(verdicts(&metastore, 1).await, None);
    assert_eq!(metastore.pending_events().await.expect("counted").count, 0);
    assert_eq!(metastore.find_events(&[object(1)]).await.expect("found"), [object(1)]);
    append(&metastore, &[garbage(1)]).await;
    assert_eq!(metastore.pending_events().await.expect("counted"), PendingEvents { set_aside: 2, ..PendingEvents::default() });
}

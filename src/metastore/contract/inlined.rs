//! Objects that are stored with their events, where the metastore takes them.

use bytes::Bytes;

use super::Backend;
use super::scene::{append, object, plain, round, single, stamped, topic, verdicts, whole_log};
use crate::metastore::WriteEvent;
use crate::types::TopicPartition;

fn with(event: WriteEvent, body: &[u8]) -> WriteEvent {
    WriteEvent { inlined: Some(Bytes::copy_from_slice(body)), ..event }
}

pub(super) async fn an_object_comes_with_its_event(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    // Every byte there is, and lengths around nothing and everything.
    let bodies: Vec<Vec<u8>> = [0, 1, 255, metastore.inline_max()].map(|len| (0..len).map(|i| i as u8).collect()).to_vec();
    let events: Vec<_> = (1..).zip(&bodies).map(|(number, body)| with(single(number, log, plain(1)), body)).collect();
    append(&metastore, &events[..3]).await;
    append(&metastore, &events[3..]).await;
    append(&metastore, &[single(5, log, plain(1))]).await;
    for waited in [true, false] {
        for (number, body) in (1..).zip(&bodies) {
            let found = metastore.inlined_object(object(number)).await.expect("looked");
            assert_eq!(found.as_deref(), Some(&body[..]), "object {number}, its event waits: {waited}");
        }
        round(&metastore).await;
    }
    assert_eq!(metastore.inlined_object(object(5)).await.expect("looked"), None);
    assert_eq!(whole_log(&metastore, log).await.len(), 5);
}

pub(super) async fn the_first_bytes_of_an_object_stay(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    append(&metastore, &[with(single(1, log, plain(1)), b"first")]).await;
    append(&metastore, &[with(single(1, log, plain(1)), b"second"), with(single(2, log, plain(1)), b"new")]).await;
    round(&metastore).await;
    append(&metastore, &[with(single(1, log, plain(1)), b"third")]).await;
    round(&metastore).await;
    for (number, body) in [(1, "first"), (2, "new")] {
        assert_eq!(metastore.inlined_object(object(number)).await.expect("looked"), Some(Bytes::from(body)));
        assert!(verdicts(&metastore, number).await.is_some());
    }
    assert_eq!(whole_log(&metastore, log).await.len(), 2);
}

pub(super) async fn the_bytes_of_what_waits_for_its_predecessor_stay(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    round(&metastore).await;
    // Of three in a row, in the order in which they come.
    for (number, sequence, segments) in [(1, 0, 1), (3, 2, 1), (2, 1, 3)] {
        append(&metastore, &[with(single(number, log, stamped(7, sequence, 1)), &[number as u8])]).await;
        round(&metastore).await;
        assert_eq!(whole_log(&metastore, log).await.len(), segments, "after object {number}");
        assert_eq!(metastore.inlined_object(object(number)).await.expect("looked"), Some(Bytes::from(vec![number as u8])));
    }
    assert_eq!(metastore.inlined_object(object(3)).await.expect("looked"), Some(Bytes::from_static(&[3])));
}

pub(super) async fn inlined_objects_are_deleted(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    // Two that are decided when they are deleted, and two that wait.
    for numbers in [[1, 2], [3, 4]] {
        round(&metastore).await;
        append(&metastore, &numbers.map(|number| with(single(number, log, plain(1)), b"body"))).await;
    }
    metastore.delete_inlined(&[1, 3, 9].map(object)).await.expect("deleted");
    for waited in [true, false] {
        for (number, left) in [(1, false), (2, true), (3, false), (4, true), (9, false)] {
            let found = metastore.inlined_object(object(number)).await.expect("looked");
            assert_eq!(found.is_some(), left, "object {number}, events wait: {waited}");
        }
        round(&metastore).await;
    }
    let found = metastore.find_events(&[1, 3].map(object)).await.expect("found");
    assert_eq!(found, [1, 3].map(object), "their events are another matter");
}

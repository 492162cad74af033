//! Objects that are stored with their events, where the metastore takes them.

use bytes::Bytes;

use super::Backend;
use super::scene::{append, object, plain, round, single, topic, verdicts, whole_log};
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

pub(super) async fn inlined_objects_are_listed_and_deleted(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    for number in [3, 1, 2, 4] {
        append(&metastore, &[with(single(number, log, plain(1)), &vec![b'x'; number as usize])]).await;
    }
    round(&metastore).await;
    let list = |after: Option<u32>, limit| {
        let metastore = backend.metastore();
        async move { metastore.list_inlined(after.map(object), limit).await.expect("listed") }
    };
    let mut all = [1, 2, 3, 4].map(|number| (object(number), u64::from(number))).to_vec();
    all.sort_unstable_by_key(|(object, _)| object.key());
    let first = all[0].0;
    assert_eq!((list(None, 10).await, list(None, 2).await), (all.clone(), all[..2].to_vec()));
    assert_eq!(metastore.list_inlined(Some(first), 10).await.expect("listed"), all[1..]);
    metastore.delete_inlined(&[first, object(9)]).await.expect("deleted");
    assert_eq!(list(None, 10).await, all[1..]);
    assert_eq!(metastore.inlined_object(first).await.expect("looked"), None);
    assert!(metastore.find_events(&[first]).await.expect("found").contains(&first), "its event is another matter");
}

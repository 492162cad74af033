//! Growing topics, configurations, trimming logs, sizes and producers.

use std::sync::Arc;

use super::Backend;
use super::scene::{LIMITS, append, event, from, plain, round, rules, single, stamped, topic, view};
use crate::metastore::{Configs, DecideTrim, Growth, Metastore, Reconfiguration, Round, TopicQuery, Trimmed};
use crate::partition::{TrimRefused, TrimTo, trim};
use crate::types::{GroupId, Head, Offset, ProducerEpoch, ProducerId, Sequence, TopicId, TopicPartition};

fn configs<const N: usize>(set: [(&str, &str); N]) -> Configs {
    set.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

async fn trims(metastore: &Arc<dyn Metastore>, trims: &[(TopicPartition, TrimTo)]) -> Vec<Trimmed> {
    let decide: DecideTrim = Arc::new(trim);
    metastore.trim_logs(trims, &decide).await.expect("trimmed")
}

async fn head(metastore: &Arc<dyn Metastore>, log: TopicPartition) -> Head {
    metastore.heads(&[log]).await.expect("heads")[0].expect("it exists")
}

fn to(offset: i64) -> TrimTo {
    TrimTo::Offset(Offset(offset))
}

pub(super) async fn a_topic_grows(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let (id, other) = (topic(&metastore, 1, 2).await, topic(&metastore, 2, 1).await);
    let log = TopicPartition::new(id, 1);
    append(&metastore, &[single(1, log, plain(3)), single(2, TopicPartition::new(id, 4), plain(1))]).await;
    assert_eq!(round(&metastore).await.segments.len(), 1);
    let Growth::Grown(grown) = metastore.grow_topic(id, 5).await.expect("grown") else { panic!("not grown") };
    assert_eq!((grown.id, grown.partitions), (id, 5));
    assert_eq!(metastore.find_topics(&TopicQuery::Ids(vec![id])).await.expect("found"), std::slice::from_ref(&grown));
    let logs: Vec<_> = (0..6).map(|p| TopicPartition::new(id, p)).collect();
    let heads = metastore.heads(&logs).await.expect("heads");
    assert_eq!(heads[1].expect("the old one").high_watermark, Offset(3));
    assert_eq!((heads[0], heads[4], heads[5]), (Some(Head::default()), Some(Head::default()), None));
    append(&metastore, &[single(3, logs[4], plain(2))]).await;
    assert_eq!(round(&metastore).await.segments.len(), 1);
    for not_more in [5, 1, 0, -1] {
        assert_eq!(metastore.grow_topic(id, not_more).await.expect("answered"), Growth::NotLarger(grown.clone()));
    }
    assert_eq!(metastore.grow_topic(TopicId([9; 16]), 5).await.expect("answered"), Growth::Gone);
    assert_eq!(metastore.find_topics(&TopicQuery::Ids(vec![other])).await.expect("found")[0].partitions, 1);
}

pub(super) async fn one_of_two_growths_at_a_time_wins(backend: &dyn Backend) {
    let (here, there) = (backend.metastore(), backend.another().await);
    let id = topic(&here, 1, 1).await;
    for partitions in 2..12 {
        let both = tokio::join!(here.grow_topic(id, partitions), there.grow_topic(id, partitions));
        match both {
            (Ok(Growth::Grown(won)), Ok(Growth::NotLarger(found))) | (Ok(Growth::NotLarger(found)), Ok(Growth::Grown(won))) => {
                assert_eq!((won.partitions, found.partitions), (partitions, partitions));
            }
            other => panic!("{other:?}"),
        }
    }
    let grow_and_delete = tokio::join!(here.grow_topic(id, 100), there.delete_topic(id));
    assert!(matches!(grow_and_delete, (Ok(Growth::Grown(_) | Growth::Gone), Ok(true))), "{grow_and_delete:?}");
    assert_eq!(here.heads(&[TopicPartition::new(id, 99), TopicPartition::new(id, 0)]).await.expect("heads"), [None, None]);
}

pub(super) async fn configurations_are_replaced_as_expected(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let id = topic(&metastore, 1, 1).await;
    let (none, one, two) = (configs([]), configs([("a", "1")]), configs([("a", "\"ä"), ("b", "")]));
    let set = async |expected, new| metastore.replace_topic_configs(id, expected, new).await.expect("answered");
    let Reconfiguration::Done(first) = set(&none, &one).await else { panic!("not set") };
    assert_eq!((first.id, &first.configs), (id, &one));
    assert_eq!(set(&none, &two).await, Reconfiguration::Outdated(first.clone()));
    assert!(matches!(set(&one, &two).await, Reconfiguration::Done(_)));
    let found = metastore.find_topics(&TopicQuery::Ids(vec![id])).await.expect("found");
    assert_eq!((&found[0].configs, found[0].created_at), (&two, first.created_at));
    assert!(matches!(set(&two, &none).await, Reconfiguration::Done(topic) if topic.configs.is_empty()));
    let nowhere = metastore.replace_topic_configs(TopicId([9; 16]), &none, &one).await.expect("answered");
    assert_eq!(nowhere, Reconfiguration::Gone);
}

pub(super) async fn a_log_is_trimmed(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let id = topic(&metastore, 1, 3).await;
    let logs: Vec<_> = (0..4).map(|p| TopicPartition::new(id, p)).collect();
    append(&metastore, &[event(1, [(logs[0], vec![plain(4), plain(4)]), (logs[1], vec![plain(5)])])]).await;
    round(&metastore).await;
    let trimmed = trims(&metastore, &[(logs[3], to(0)), (logs[0], to(3)), (logs[1], TrimTo::HighWatermark), (logs[2], to(1))]).await;
    assert_eq!(trimmed[0], None);
    assert_eq!(trimmed[1].expect("it exists").expect("in range").log_start, Offset(3));
    assert_eq!(trimmed[2].expect("it exists").expect("in range").log_start, Offset(5));
    assert_eq!(trimmed[3], Some(Err(TrimRefused::OutOfRange { offset: Offset(1), high_watermark: Offset(0) })));
    let heads = metastore.heads(&logs[..3]).await.expect("heads");
    assert_eq!(heads.iter().map(|h| h.expect("it exists").log_start.0).collect::<Vec<_>>(), [3, 5, 0]);
    // Never backwards; and of two targets the later one counts.
    let trimmed = trims(&metastore, &[(logs[0], to(7)), (logs[0], to(1))]).await;
    assert_eq!(trimmed[0].map(|t| t.map(|h| h.log_start)), Some(Ok(Offset(7))));
    assert_eq!(head(&metastore, logs[0]).await.log_start, Offset(7));
    assert_eq!(metastore.first_segment_since(logs[1], crate::types::Timestamp(0)).await.expect("searched"), None);
}

pub(super) async fn what_was_trimmed_is_swept_in_pieces(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let id = topic(&metastore, 1, 3).await;
    let logs = [0, 1, 2].map(|p| TopicPartition::new(id, p));
    for number in 0..6 {
        append(&metastore, &[event(number, logs.map(|log| (log, vec![plain(2)])))]).await;
    }
    round(&metastore).await;
    assert!(!metastore.sweep_trimmed_segments(100).await.expect("swept"));
    // Five and four segments lie wholly below, one in part.
    trims(&metastore, &[(logs[0], to(10)), (logs[1], to(9))]).await;
    let mut more = Vec::new();
    for _ in 0..3 {
        more.push(metastore.sweep_trimmed_segments(4).await.expect("swept"));
    }
    assert_eq!(more, [true, true, false]);
    let first = async |log| view(&metastore, from(log, 0)).await.expect("it exists").segments[0].base_offset;
    assert_eq!((first(logs[0]).await, first(logs[1]).await, first(logs[2]).await), (Offset(10), Offset(8), Offset(0)));
}

pub(super) async fn trimming_and_rounds_do_not_undo_each_other(backend: &dyn Backend) {
    let (here, there) = (backend.metastore(), backend.another().await);
    let log = TopicPartition::new(topic(&here, 1, 1).await, 0);
    for number in 0..20 {
        append(&here, &[single(number, log, plain(1))]).await;
        let before = head(&here, log).await.high_watermark;
        let (decide, rules): (DecideTrim, _) = (Arc::new(trim), rules());
        let at = [(log, TrimTo::Offset(before))];
        let (done, trimmed) = tokio::join!(here.run_round(LIMITS, &rules), there.trim_logs(&at, &decide));
        if matches!(done.expect("a round"), Round::Busy) {
            round(&here).await;
        }
        assert_eq!(trimmed.expect("trimmed")[0].expect("it exists").expect("in range").log_start, before);
        assert_eq!(head(&here, log).await.log_start, before);
        assert_eq!(head(&here, log).await.high_watermark, before.plus(1));
    }
}

pub(super) async fn sizes_are_those_of_segments(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let (id, other) = (topic(&metastore, 1, 3).await, topic(&metastore, 2, 1).await);
    let logs = [0, 1].map(|p| TopicPartition::new(id, p));
    append(&metastore, &[event(1, [(logs[0], vec![plain(1)]), (logs[1], vec![plain(2)])]), single(2, logs[1], plain(3))]).await;
    append(&metastore, &[single(3, TopicPartition::new(other, 0), plain(7))]).await;
    round(&metastore).await;
    assert_eq!(metastore.log_sizes(&[id]).await.expect("sizes"), [(logs[0], 100), (logs[1], 500)]);
    assert_eq!(metastore.log_sizes(&[]).await.expect("sizes"), []);
    assert_eq!(metastore.log_sizes(&[other, id, TopicId([9; 16])]).await.expect("sizes").len(), 3);
    trims(&metastore, &[(logs[1], to(2))]).await;
    metastore.sweep_trimmed_segments(100).await.expect("swept");
    assert_eq!(metastore.log_sizes(&[id]).await.expect("sizes"), [(logs[0], 100), (logs[1], 300)]);
}

pub(super) async fn producers_are_listed(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let id = topic(&metastore, 1, 2).await;
    let logs = [0, 1].map(|p| TopicPartition::new(id, p));
    let batches = vec![stamped(7, 0, 2), stamped(5, 0, 1), stamped(7, 2, 3), plain(1)];
    append(&metastore, &[event(1, [(logs[0], batches), (logs[1], vec![stamped(6, 0, 1)])])]).await;
    round(&metastore).await;
    let found = metastore.producers(&[logs[1], logs[0], logs[0]], 10).await.expect("producers");
    let keys: Vec<_> = found.iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, [(logs[0], ProducerId(5)), (logs[0], ProducerId(7)), (logs[1], ProducerId(6))]);
    let newest = found[1].1.recent.back().expect("a batch");
    assert_eq!((found[1].1.epoch, newest.last_sequence), (ProducerEpoch(0), Sequence(4)));
    assert_eq!(metastore.producers(&logs, 2).await.expect("producers").len(), 2);
    assert_eq!(metastore.producers(&[], 2).await.expect("producers"), []);
}

pub(super) async fn group_configurations_are_replaced_as_expected(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let [a, b] = ["a", "b \"ö\""].map(|name| GroupId(name.into()));
    let (none, one, two) = (configs([]), configs([("x", "1")]), configs([("x", "2"), ("y", "ä")]));
    let set = async |group, expected, new| metastore.replace_group_configs(group, expected, new).await.expect("answered");
    assert!(set(&b, &none, &one).await);
    assert!(!set(&b, &none, &two).await);
    assert!(set(&b, &one, &two).await);
    assert!(set(&a, &none, &one).await);
    assert_eq!(metastore.configured_groups().await.expect("groups"), [a.clone(), b.clone()]);
    let unknown = GroupId("c".into());
    assert_eq!(metastore.group_configs(&[b.clone(), unknown, a.clone()]).await.expect("set"), [two.clone(), none.clone(), one.clone()]);
    assert!(set(&a, &one, &none).await);
    assert_eq!(metastore.configured_groups().await.expect("groups"), [b]);
}

//! Topics.

use std::collections::BTreeMap;

use super::Backend;
use super::scene::{append, at, event, from, name, object, plain, round, single, topic, verdicts, view};
use crate::metastore::{CommittedOffset, Creation, GroupVersion, MetaError, Topic, TopicQuery};
use crate::partition::{BatchVerdict, RejectReason};
use crate::types::{GroupId, Head, Offset, TopicId, TopicPartition};

pub(super) async fn a_topic_is_created_and_found(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let configs: BTreeMap<String, String> =
        [("cleanup.policy", "compact"), ("note", "\"ä\\ \n{}")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let created = metastore.create_topic(TopicId([2; 16]), &name("b"), 3, &configs).await.expect("created");
    let Creation::Created(b) = created else { panic!("{created:?}") };
    assert_eq!((b.id, b.name.as_str(), b.partitions, &b.configs), (TopicId([2; 16]), "b", 3, &configs));
    assert!(b.created_at.0 > 1_000_000_000_000);
    metastore.create_topic(TopicId([1; 16]), &name("c"), 1, &BTreeMap::new()).await.expect("created");
    metastore.create_topic(TopicId([3; 16]), &name("B"), 1, &BTreeMap::new()).await.expect("created");

    let names = |topics: Vec<Topic>| topics.iter().map(|t| t.name.to_string()).collect::<Vec<_>>();
    let find = async |query| metastore.find_topics(&query).await.expect("found");
    assert_eq!(names(find(TopicQuery::All).await), ["B", "b", "c"]);
    assert_eq!(find(TopicQuery::Names(vec![name("nobody"), name("b")])).await, std::slice::from_ref(&b));
    assert_eq!(names(find(TopicQuery::Ids(vec![TopicId([9; 16]), TopicId([1; 16]), b.id])).await), ["b", "c"]);
    assert_eq!(find(TopicQuery::Names(vec![])).await, []);
    let logs: Vec<_> = (0..4).map(|p| TopicPartition::new(b.id, p)).collect();
    let empty = Some(Head::default());
    assert_eq!(metastore.heads(&logs).await.expect("heads"), [empty, empty, empty, None]);
}

/// A topic is created once, however often and by whomever it is asked for.
pub(super) async fn a_taken_name_is_found_instead(backend: &dyn Backend) {
    let metastore = backend.metastore();
    topic(&metastore, 1, 3).await;
    let second = metastore.create_topic(TopicId([2; 16]), &name("topic-1"), 5, &BTreeMap::new()).await.expect("answered");
    let Creation::Exists(first) = second else { panic!("{second:?}") };
    assert_eq!((first.id, first.partitions), (TopicId([1; 16]), 3));
    assert_eq!(metastore.heads(&[TopicPartition::new(TopicId([2; 16]), 0)]).await.expect("heads"), [None]);
    // The same call again, as after an unknown outcome.
    let again = metastore.create_topic(TopicId([1; 16]), &name("topic-1"), 3, &BTreeMap::new()).await.expect("answered");
    assert_eq!(again, Creation::Exists(first));
}

/// Also at the same time: two agents must not both believe that they created it.
pub(super) async fn one_of_two_creations_at_a_time_wins(backend: &dyn Backend) {
    let (here, there) = (backend.metastore(), backend.another().await);
    for number in 0..20u8 {
        let name = name(&format!("topic-{number}"));
        let (ours, theirs) = (TopicId([number + 1; 16]), TopicId([number + 101; 16]));
        let configs = BTreeMap::new();
        let both = tokio::join!(here.create_topic(ours, &name, 2, &configs), there.create_topic(theirs, &name, 2, &configs));
        let id = match both {
            (Ok(Creation::Created(won)), Ok(Creation::Exists(found))) | (Ok(Creation::Exists(found)), Ok(Creation::Created(won))) => {
                assert_eq!(won, found);
                won.id
            }
            other => panic!("{other:?}"),
        };
        let loser = if id == ours { theirs } else { ours };
        let heads = here.heads(&[TopicPartition::new(id, 1), TopicPartition::new(loser, 1)]).await.expect("heads");
        assert_eq!(heads, [Some(Head::default()), None]);
    }
    assert_eq!(here.find_topics(&TopicQuery::All).await.expect("found").len(), 20);
}

pub(super) async fn a_topic_of_a_thousand_partitions(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let id = topic(&metastore, 1, 1000).await;
    let logs: Vec<_> = (0..1001).map(|p| TopicPartition::new(id, p)).collect();
    let heads = metastore.heads(&logs).await.expect("heads");
    assert!(heads[..1000].iter().all(Option::is_some));
    assert_eq!(heads[1000], None);
}

pub(super) async fn a_deleted_topic_is_forgotten(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let (id, other) = (topic(&metastore, 1, 2).await, topic(&metastore, 2, 1).await);
    let log = TopicPartition::new(id, 0);
    append(&metastore, &[single(1, log, plain(3))]).await;
    round(&metastore).await;
    let group = GroupId("group".into());
    let committed = CommittedOffset { offset: Offset(1), leader_epoch: -1, metadata: None };
    let kept = (TopicPartition::new(other, 0), committed.clone());
    metastore.commit_offsets(&group, GroupVersion::NONE, &[(log, committed), kept.clone()]).await.expect("committed");

    assert!(metastore.delete_topic(id).await.expect("deleted"));
    assert!(!metastore.delete_topic(id).await.expect("answered"));
    assert_eq!(metastore.find_topics(&TopicQuery::Ids(vec![id])).await.expect("found"), []);
    assert_eq!(metastore.heads(&[log]).await.expect("heads"), [None]);
    assert_eq!(view(&metastore, from(log, 0)).await, None);
    assert_eq!(metastore.committed_offsets(&group, None).await.expect("offsets"), [kept]);
    // Verdicts stay: somebody may still wait for them.
    assert_eq!(verdicts(&metastore, 1).await, Some(vec![at(0)]));
}

pub(super) async fn an_id_is_not_used_again(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let id = topic(&metastore, 1, 1).await;
    let again = metastore.create_topic(id, &name("another-name"), 1, &BTreeMap::new()).await;
    assert!(matches!(again, Err(MetaError::Refused(_))), "{again:?}");
    metastore.delete_topic(id).await.expect("deleted");
    let again = metastore.create_topic(id, &name("topic-1"), 1, &BTreeMap::new()).await;
    assert!(matches!(again, Err(MetaError::Refused(_))), "{again:?}");
    assert_eq!(metastore.find_topics(&TopicQuery::All).await.expect("found"), []);
}

pub(super) async fn swept_in_pieces(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let (id, other) = (topic(&metastore, 1, 2).await, topic(&metastore, 2, 1).await);
    let logs = [TopicPartition::new(id, 0), TopicPartition::new(id, 1), TopicPartition::new(other, 0)];
    for number in 0..5 {
        append(&metastore, &[event(number, logs.map(|log| (log, vec![plain(1)])))]).await;
    }
    round(&metastore).await;
    assert!(!metastore.sweep_deleted_topics(100).await.expect("swept"));
    metastore.delete_topic(id).await.expect("deleted");
    // Ten segments are to go.
    let mut more = Vec::new();
    for _ in 0..4 {
        more.push(metastore.sweep_deleted_topics(4).await.expect("swept"));
    }
    assert_eq!(more, [true, true, false, false]);
    assert_eq!(view(&metastore, from(logs[2], 0)).await.expect("the other topic").segments.len(), 5);
}

pub(super) async fn events_carry_ids_not_names(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let old = topic(&metastore, 1, 1).await;
    append(&metastore, &[single(1, TopicPartition::new(old, 0), plain(1))]).await;
    metastore.delete_topic(old).await.expect("deleted");
    let new = TopicId([2; 16]);
    metastore.create_topic(new, &name("topic-1"), 1, &BTreeMap::new()).await.expect("created");
    append(&metastore, &[single(2, TopicPartition::new(new, 0), plain(1)), single(3, TopicPartition::new(new, 1), plain(1))]).await;
    let report = round(&metastore).await;
    assert_eq!((report.events, report.segments.len()), (3, 1));
    let unknown = Some(vec![BatchVerdict::Rejected(RejectReason::UnknownLog)]);
    assert_eq!(verdicts(&metastore, 1).await, unknown);
    assert_eq!(verdicts(&metastore, 2).await, Some(vec![at(0)]));
    assert_eq!(verdicts(&metastore, 3).await, unknown);
    assert_eq!(metastore.find_events(&[object(1)]).await.expect("found"), [object(1)]);
}

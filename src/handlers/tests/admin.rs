//! Administration of topics, logs and the cluster.

use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, CreateAclsRequest, CreatePartitionsRequest, DeleteAclsRequest, DeleteRecordsRequest,
    DescribeAclsRequest, DescribeClientQuotasRequest, DescribeLogDirsRequest, DescribeProducersRequest, DescribeTopicPartitionsRequest,
    DescribeUserScramCredentialsRequest, ElectLeadersRequest, ListOffsetsRequest, ListPartitionReassignmentsRequest, UpdateFeaturesRequest,
    describe_producers_request,
};

use super::{World, text, wire};
use crate::clock::{Clock as _, SystemClock};
use crate::records::batch::build;

fn growth(name: &str, count: i32) -> CreatePartitionsTopic {
    CreatePartitionsTopic::default().with_name(wire(name)).with_count(count).with_assignments(None)
}

fn assigned(name: &str, count: i32, brokers: &[&[i32]]) -> CreatePartitionsTopic {
    let assignment = |ids: &&[i32]| CreatePartitionsAssignment::default().with_broker_ids(ids.iter().map(|id| BrokerId(*id)).collect());
    growth(name, count).with_assignments(Some(brokers.iter().map(assignment).collect()))
}

impl World {
    async fn grow(&self, version: i16, topics: Vec<CreatePartitionsTopic>) -> Vec<i16> {
        let answer = self.ask(version, &CreatePartitionsRequest::default().with_topics(topics)).await;
        answer.results.iter().map(|result| result.error_code).collect()
    }

    async fn partitions(&self, name: &str) -> usize {
        self.metadata(name, false).await.topics[0].partitions.len()
    }

    async fn delete_records(&self, version: i16, name: &str, partition: i32, offset: i64) -> (i16, i64) {
        let partition = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(wire(name)).with_partitions(vec![partition]);
        let answer = self.ask(version, &DeleteRecordsRequest::default().with_topics(vec![topic])).await;
        let result = &answer.topics[0].partitions[0];
        (result.error_code, result.low_watermark)
    }

    async fn earliest(&self, name: &str) -> i64 {
        let partition = ListOffsetsPartition::default().with_timestamp(-2);
        let topic = ListOffsetsTopic::default().with_name(wire(name)).with_partitions(vec![partition]);
        self.ask(7, &ListOffsetsRequest::default().with_topics(vec![topic])).await.topics[0].partitions[0].offset
    }

    /// Names with their partitions, and the cursor.
    async fn page(&self, names: &[&str], limit: i32, cursor: Option<(&str, i32)>) -> (Vec<(String, i16, Vec<i32>)>, Option<(String, i32)>) {
        let cursor = cursor.map(|(name, index)| Cursor::default().with_topic_name(wire(name)).with_partition_index(index));
        let request = DescribeTopicPartitionsRequest::default()
            .with_topics(names.iter().map(|name| TopicRequest::default().with_name(wire(name))).collect())
            .with_response_partition_limit(limit)
            .with_cursor(cursor);
        let answer = self.ask(0, &request).await;
        let topic = |topic: &kafka_protocol::messages::describe_topic_partitions_response::DescribeTopicPartitionsResponseTopic| {
            let partitions = topic.partitions.iter().map(|partition| partition.partition_index).collect();
            (topic.name.as_ref().expect("a name").to_string(), topic.error_code, partitions)
        };
        let next = answer.next_cursor.map(|cursor| (cursor.topic_name.to_string(), cursor.partition_index));
        (answer.topics.iter().map(topic).collect(), next)
    }
}

#[tokio::test]
async fn topics_get_more_partitions_in_every_version() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    for version in 0..=3 {
        let count = i32::from(version) + 2;
        assert_eq!(world.grow(version, vec![growth("t", count)]).await, [0]);
        assert_eq!(world.partitions("t").await, count as usize);
        let batch = build::batch(1, 5, SystemClock.now().0);
        assert_eq!(world.produce(9, "t", count - 1, batch).await.error_code, 0, "usable at once");
    }
    assert_eq!(world.grow(3, vec![assigned("t", 7, &[&[3], &[3, 4]])]).await, [0]);
}

#[tokio::test]
async fn what_would_not_be_an_increase_or_cannot_be_is_refused() {
    let world = World::new();
    world.create("t", 3, &[]).await;
    for (topic, code) in [
        (growth("t", 3), 37),
        (growth("t", 2), 37),
        (growth("t", 0), 37),
        (growth("t", -1), 37),
        (growth("t", 101), 37),
        (growth("unknown", 5), 3),
        (growth("not/legal", 5), 17),
        (assigned("t", 5, &[&[3]]), 39),
        (assigned("t", 4, &[&[]]), 39),
        (assigned("t", 4, &[&[3, 3]]), 39),
    ] {
        assert_eq!(world.grow(2, vec![topic.clone()]).await, [code], "{topic:?}");
    }
    assert_eq!(world.grow(2, vec![growth("t", 4), growth("unknown", 1), growth("t", 5)]).await, [42, 3]);
    let validate = CreatePartitionsRequest::default().with_topics(vec![growth("t", 5)]).with_validate_only(true);
    assert_eq!(world.ask(3, &validate).await.results[0].error_code, 0);
    assert_eq!(world.partitions("t").await, 3);
}

#[tokio::test]
async fn deleted_records_are_gone_at_once() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    for _ in 0..3 {
        world.produce(9, "t", 0, build::batch(4, 5, SystemClock.now().0)).await;
    }
    for version in 0..=2 {
        let offset = i64::from(version) + 2;
        assert_eq!(world.delete_records(version, "t", 0, offset).await, (0, offset));
        assert_eq!(world.earliest("t").await, offset);
    }
    assert_eq!(world.delete_records(2, "t", 0, 1).await, (0, 4), "never backwards");
    assert_eq!(world.delete_records(2, "t", 0, 13).await, (1, -1));
    assert_eq!(world.delete_records(2, "t", 0, -2).await, (1, -1));
    assert_eq!(world.delete_records(2, "t", 1, 1).await, (3, -1));
    assert_eq!(world.delete_records(2, "unknown", 0, 1).await, (3, -1));
    assert_eq!(world.delete_records(2, "t", 0, -1).await, (0, 12), "all");
    assert_eq!(world.produce(9, "t", 0, build::batch(1, 5, SystemClock.now().0)).await.log_start_offset, 12);
    world.create("compacted", 1, &[("cleanup.policy", "compact")]).await;
    assert_eq!(world.delete_records(2, "compacted", 0, -1).await, (44, -1));
    world.create("both", 1, &[("cleanup.policy", "compact,delete")]).await;
    assert_eq!(world.delete_records(2, "both", 0, -1).await, (0, 0));
    world.flaky.switch_off();
    assert_eq!(world.delete_records(2, "t", 0, -1).await, (7, -1));
}

#[tokio::test]
async fn topics_are_described_a_page_at_a_time() {
    let world = World::new();
    for (name, partitions) in [("b", 3), ("a", 2), ("c", 1)] {
        world.create(name, partitions, &[]).await;
    }
    let told = |topics: &[(&str, i16, &[i32])]| topics.iter().map(|(n, e, p)| ((*n).to_owned(), *e, p.to_vec())).collect::<Vec<_>>();
    let next = |name: &str, index| Some((name.to_owned(), index));
    let all = told(&[("a", 0, &[0, 1]), ("b", 0, &[0, 1, 2]), ("c", 0, &[0])]);
    assert_eq!(world.page(&[], 2_000, None).await, (all.clone(), None));
    assert_eq!(world.page(&["c", "a", "b", "a"], 100_000, None).await, (all, None));
    assert_eq!(world.page(&[], 4, None).await, (told(&[("a", 0, &[0, 1]), ("b", 0, &[0, 1])]), next("b", 2)));
    assert_eq!(world.page(&[], 4, Some(("b", 2))).await, (told(&[("b", 0, &[2]), ("c", 0, &[0])]), None));
    assert_eq!(world.page(&[], 2, None).await, (told(&[("a", 0, &[0, 1])]), next("b", 0)));
    assert_eq!(world.page(&["a", "x", "no/t"], 0, None).await, (told(&[("a", 0, &[0])]), next("a", 1)), "at least one");
    assert_eq!(world.page(&["a", "x", "no/t"], 9, Some(("b", -3))).await, (told(&[("no/t", 17, &[]), ("x", 3, &[])]), None));
    assert_eq!(
        world.page(&[], 9, Some(("b", 7))).await,
        (told(&[("b", 0, &[]), ("c", 0, &[0])]), None),
        "a topic that was made anew, smaller"
    );
    let answer = world.ask(0, &DescribeTopicPartitionsRequest::default().with_response_partition_limit(9)).await;
    let partition = &answer.topics[0].partitions[0];
    assert_eq!(
        (partition.leader_id, &partition.isr_nodes[..], &partition.replica_nodes[..]),
        (BrokerId(3), &[BrokerId(3)][..], &[BrokerId(3)][..])
    );
    world.flaky.switch_off();
    assert_eq!(world.page(&["a"], 9, None).await.0, told(&[("a", 5, &[])]));
}

#[tokio::test]
async fn log_directories_tell_the_sizes_of_segments() {
    let world = World::new();
    world.create("t", 2, &[]).await;
    world.create("u", 1, &[]).await;
    let batch = build::batch(2, 50, SystemClock.now().0);
    let size = batch.len() as i64;
    world.produce(9, "t", 1, batch.clone()).await;
    world.produce(9, "t", 1, batch).await;
    let sizes = async |version, topics: Option<Vec<DescribableLogDirTopic>>| {
        let answer = world.ask(version, &DescribeLogDirsRequest::default().with_topics(topics)).await;
        let [directory] = &answer.results[..] else { panic!("one directory") };
        assert_eq!((answer.error_code, directory.error_code, &*directory.log_dir), (0, 0, "memory"));
        let topic = |topic: &kafka_protocol::messages::describe_log_dirs_response::DescribeLogDirsTopic| {
            let sizes = topic.partitions.iter().map(|partition| (partition.partition_index, partition.partition_size));
            (topic.name.to_string(), sizes.collect::<Vec<_>>())
        };
        directory.topics.iter().map(topic).collect::<Vec<_>>()
    };
    let (t, u) = (("t".to_owned(), vec![(0, 0), (1, 2 * size)]), ("u".to_owned(), vec![(0, 0)]));
    for version in 1..=4 {
        assert_eq!(sizes(version, None).await, [t.clone(), u.clone()]);
    }
    let asked =
        |name: &str, partitions: &[i32]| DescribableLogDirTopic::default().with_topic(wire(name)).with_partitions(partitions.to_vec());
    assert_eq!(sizes(4, Some(vec![asked("t", &[1, 7]), asked("unknown", &[0])])).await, [("t".to_owned(), vec![(1, 2 * size)])]);
    assert_eq!(sizes(4, Some(vec![])).await, []);
    world.flaky.switch_off();
    let down = world.ask(4, &DescribeLogDirsRequest::default().with_topics(None)).await;
    assert_eq!((down.error_code, down.results[0].error_code), (56, 56));
}

#[tokio::test]
async fn producers_of_a_log_are_described() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    world.produce(9, "t", 0, build::stamped(build::batch(3, 5, SystemClock.now().0), 70, 0, 0)).await;
    world.produce(9, "t", 0, build::stamped(build::batch(2, 5, SystemClock.now().0), 70, 0, 3)).await;
    let topic = |name: &str, partitions: &[i32]| {
        describe_producers_request::TopicRequest::default().with_name(wire(name)).with_partition_indexes(partitions.to_vec())
    };
    let request = DescribeProducersRequest::default().with_topics(vec![topic("t", &[0, 1]), topic("unknown", &[0])]);
    let answer = world.ask(0, &request).await;
    let codes: Vec<i16> = answer.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect();
    assert_eq!(codes, [0, 3, 3]);
    let [producer] = &answer.topics[0].partitions[0].active_producers[..] else { panic!("one producer") };
    assert_eq!((producer.producer_id.0, producer.producer_epoch, producer.last_sequence), (70, 0, 4));
    assert_eq!((producer.coordinator_epoch, producer.current_txn_start_offset), (-1, -1));
    world.flaky.switch_off();
    assert_eq!(world.ask(0, &request).await.topics[0].partitions[0].error_code, 7);
}

#[tokio::test]
async fn without_replicas_nothing_is_elected_or_moved() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    for version in 0..=2 {
        let topic = TopicPartitions::default().with_topic(wire("t")).with_partitions(vec![0, 1]);
        let request = ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic]));
        let answer = world.ask(version, &request).await;
        let codes: Vec<i16> = answer.replica_election_results[0].partition_result.iter().map(|p| p.error_code).collect();
        assert_eq!((answer.error_code, codes), (0, vec![84, 3]));
        let all = world.ask(version, &ElectLeadersRequest::default().with_topic_partitions(None)).await;
        assert!(all.replica_election_results.is_empty());
    }
    let wish = |replicas: Option<&[i32]>| {
        let replicas = replicas.map(|ids| ids.iter().map(|id| BrokerId(*id)).collect());
        ReassignablePartition::default().with_partition_index(0).with_replicas(replicas)
    };
    for version in 0..=1 {
        let wishes =
            vec![wish(None), wish(Some(&[3])), wish(Some(&[4])), wish(Some(&[3, 4])), wish(Some(&[])), wish(None).with_partition_index(9)];
        let topic = ReassignableTopic::default().with_name(wire("t")).with_partitions(wishes);
        let answer = world.ask(version, &AlterPartitionReassignmentsRequest::default().with_topics(vec![topic])).await;
        let codes: Vec<i16> = answer.responses[0].partitions.iter().map(|p| p.error_code).collect();
        assert_eq!((answer.error_code, codes), (0, vec![85, 0, 39, 39, 39, 3]), "version {version}");
    }
    let list = world.ask(0, &ListPartitionReassignmentsRequest::default().with_topics(None)).await;
    assert_eq!((list.error_code, list.topics.len()), (0, 0));
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_absent() {
    let world = World::new();
    for version in 1..=3 {
        let answer = world.ask(version, &DescribeAclsRequest::default().with_resource_type_filter(1)).await;
        assert_eq!((answer.error_code, answer.error_message.as_deref()), (54, Some("No Authorizer is configured.")));
        let created = world.ask(version, &CreateAclsRequest::default().with_creations(vec![AclCreation::default(); 2])).await;
        assert_eq!(created.results.iter().map(|r| r.error_code).collect::<Vec<_>>(), [54, 54]);
        let deleted = world.ask(version, &DeleteAclsRequest::default().with_filters(vec![DeleteAclsFilter::default()])).await;
        assert_eq!(deleted.filter_results.iter().map(|r| r.error_code).collect::<Vec<_>>(), [54]);
    }
    for version in 0..=1 {
        let quotas = world.ask(version, &DescribeClientQuotasRequest::default()).await;
        assert_eq!((quotas.error_code, quotas.entries), (0, Some(vec![])));
    }
    let users = DescribeUserScramCredentialsRequest::default().with_users(Some(vec![UserName::default().with_name(text("u"))]));
    assert_eq!(world.ask(0, &users).await.results[0].error_code, 91);
    assert!(world.ask(0, &users.with_users(None)).await.results.is_empty());
    for version in 0..=2 {
        let update = FeatureUpdateKey::default().with_feature(text("metadata.version")).with_max_version_level(7);
        let answer = world.ask(version, &UpdateFeaturesRequest::default().with_feature_updates(vec![update])).await;
        let codes: Vec<i16> = answer.results.iter().map(|r| r.error_code).collect();
        assert_eq!((answer.error_code, codes), if version == 2 { (95, vec![]) } else { (0, vec![95]) });
    }
}

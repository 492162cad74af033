//! Topics and the cluster: metadata, creation, deletion, configurations.

use std::sync::Arc;

use kafka_protocol::messages::create_topics_request::CreatableReplicaAssignment;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{BrokerId, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest, MetadataRequest};
use uuid::Uuid;

use super::{World, config, creatable, create_request, text, wire};
use crate::clock::SystemClock;
use crate::handlers::{HandlerConfig, Refusal};
use crate::metastore::memory::MemoryMetastore;
use crate::metastore::{Agent, Identity, Metastore, TopicQuery};
use crate::types::NodeId;

/// Leader and controller are nodes that exist: clients hang when they are told of another.
#[tokio::test]
async fn a_topic_asked_for_is_created_with_the_default_partitions() {
    let world = World::new();
    let answer = world.metadata("new", true).await;
    assert_eq!((answer.topics[0].error_code, answer.topics[0].partitions.len()), (0, 2));
    assert_eq!(answer.topics[0].partitions[0].leader_id, BrokerId(3), "a leader that exists");
    assert_eq!((answer.controller_id, answer.brokers[0].node_id), (BrokerId(3), BrokerId(3)));
    assert_eq!((&*answer.brokers[0].host, answer.brokers[0].port), ("here", 9092));
    assert_eq!(answer.cluster_id.as_deref(), Some("cluster"));
}

#[tokio::test]
async fn a_topic_is_not_created_if_client_or_agent_forbids_it_or_its_name() {
    let world = World::new();
    assert_eq!(world.metadata("new", false).await.topics[0].error_code, 3);
    assert_eq!(world.metadata("not/legal", true).await.topics[0].error_code, 17);
    let strict = World::with(HandlerConfig { auto_create_topics: false, ..config() });
    assert_eq!(strict.metadata("new", true).await.topics[0].error_code, 3);
}

#[tokio::test]
async fn metadata_of_all_none_named_and_by_id() {
    let world = World::new();
    let id = world.create("a", 1, &[]).await;
    world.create("b", 3, &[]).await;
    let names = |request: MetadataRequest, version| {
        let world = &world;
        async move { world.ask(version, &request).await.topics.iter().map(|t| t.name.as_ref().map(|n| n.to_string())).collect::<Vec<_>>() }
    };
    let both = vec![Some("a".to_owned()), Some("b".to_owned())];
    assert_eq!(names(MetadataRequest::default().with_topics(None), 1).await, both);
    assert_eq!(names(MetadataRequest::default().with_topics(Some(vec![])), 0).await, both, "empty means all in version 0");
    assert!(names(MetadataRequest::default().with_topics(Some(vec![])), 1).await.is_empty());
    let by_id = |id| MetadataRequest::default().with_topics(Some(vec![MetadataRequestTopic::default().with_name(None).with_topic_id(id)]));
    assert_eq!(names(by_id(id), 12).await, vec![Some("a".to_owned())]);
    assert_eq!(world.ask(12, &by_id(Uuid::from_u128(9))).await.topics[0].error_code, 100);
    let twice = MetadataRequest::default().with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(wire("b"))); 2]));
    assert_eq!(names(twice, 9).await.len(), 1);
}

#[tokio::test]
async fn creating_what_exists_or_cannot_exist_is_refused_with_kafkas_codes() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    for (topic, code) in [
        (creatable("t", 1, &[]), 36),
        (creatable("not/legal", 1, &[]), 17),
        (creatable("", 1, &[]), 17),
        (creatable("x", 0, &[]), 37),
        (creatable("x", -2, &[]), 37),
        (creatable("x", 101, &[]), 37),
        (creatable("x", i32::MAX, &[]), 37),
        (creatable("x", 1, &[]).with_replication_factor(0), 38),
        (creatable("x", 1, &[("no.such", "1")]), 40),
        (creatable("x", 1, &[("retention.ms", "soon")]), 40),
        (creatable("x", 1, &[("compression.type", "brotli")]), 40),
        (creatable("x", 2, &[]).with_assignments(vec![CreatableReplicaAssignment::default()]), 42),
    ] {
        assert_eq!(world.create_answer(topic.clone()).await.0, code, "{topic:?}");
    }
    assert_eq!(world.metadata("x", false).await.topics[0].error_code, 3, "nothing was created");
}

/// Two agents that create the same topic at the same time, both because a client asked for it: there must be one topic, not two.
#[tokio::test]
async fn two_agents_that_create_a_topic_at_once_agree_on_one() {
    let metastore: Arc<dyn Metastore> = Arc::new(MemoryMetastore::new(Arc::new(SystemClock)));
    let other = Agent {
        node: NodeId(4),
        broker: NodeId(4),
        instance: [4; 16],
        advertised_host: "there".to_owned(),
        ..(*config().me.agent()).clone()
    };
    let (here, there) =
        (World::on(&metastore, config()), World::on(&metastore, HandlerConfig { me: Identity::of_the_only(other), ..config() }));
    for round in 0..20 {
        let name = format!("t{round}");
        let (a, b) = tokio::join!(here.metadata(&name, true), there.metadata(&name, true));
        assert_eq!((a.topics[0].error_code, b.topics[0].error_code), (0, 0));
        let known = [here.topic_id(&name).await, there.topic_id(&name).await];
        assert_eq!(known[0], known[1]);
        let name = format!("c{round}");
        let ((a, _), (b, _)) = tokio::join!(here.create_answer(creatable(&name, 1, &[])), there.create_answer(creatable(&name, 1, &[])));
        assert_eq!([a.min(b), a.max(b)], [0, 36], "one creates it, the other one is told that it exists");
    }
    assert_eq!(metastore.find_topics(&TopicQuery::All).await.expect("topics").len(), 40);
}

#[tokio::test]
async fn partitions_come_from_the_default_the_count_or_the_assignment() {
    let world = World::new();
    let assignment = |index| CreatableReplicaAssignment::default().with_partition_index(index).with_broker_ids(vec![BrokerId(3)]);
    let assigned = |indexes: &[i32]| creatable("assigned", -1, &[]).with_assignments(indexes.iter().map(|i| assignment(*i)).collect());
    assert_eq!(world.create_answer(assigned(&[0, 2])).await.0, 39);
    assert_eq!(world.create_answer(assigned(&[1, 0, 2])).await.0, 0);
    assert_eq!(world.metadata("assigned", false).await.topics[0].partitions.len(), 3);
    assert_eq!(world.create_answer(creatable("default", -1, &[])).await.0, 0);
    assert_eq!(world.metadata("default", false).await.topics[0].partitions.len(), 2);
    assert_eq!(world.create_answer(creatable("replicated", 1, &[]).with_replication_factor(3)).await.0, 0);
}

#[tokio::test]
async fn a_name_twice_in_one_request_is_refused_once() {
    let world = World::new();
    let answer = world.ask(5, &create_request(&[creatable("a", 1, &[]), creatable("b", 1, &[]), creatable("a", 2, &[])])).await;
    assert_eq!(answer.topics.iter().map(|t| (&**t.name, t.error_code)).collect::<Vec<_>>(), [("a", 42), ("b", 0)]);
}

#[tokio::test]
async fn validating_creates_nothing() {
    let world = World::new();
    let answer = world.ask(7, &create_request(&[creatable("v", 4, &[("retention.ms", "5")])]).with_validate_only(true)).await;
    let topic = &answer.topics[0];
    assert_eq!((topic.error_code, topic.num_partitions, topic.replication_factor), (0, 4, 1));
    let configs = topic.configs.as_ref().expect("configurations");
    let retention = configs.iter().find(|c| &*c.name == "retention.ms").expect("retention");
    assert_eq!((retention.value.as_deref(), retention.config_source), (Some("5"), 1));
    assert_eq!(world.metadata("v", false).await.topics[0].error_code, 3);
}

#[tokio::test]
async fn topics_are_deleted_by_name_and_id_and_are_gone_at_once() {
    let world = World::new();
    world.create("by-name", 1, &[]).await;
    let id = world.create("by-id", 1, &[]).await;
    let names = |names: &[&str]| DeleteTopicsRequest::default().with_topic_names(names.iter().map(|n| wire(n)).collect());
    let answer = world.ask(3, &names(&["by-name", "unknown", "not/legal"])).await;
    assert_eq!(answer.responses.iter().map(|r| r.error_code).collect::<Vec<_>>(), [0, 3, 3]);
    let state = DeleteTopicState::default().with_name(None).with_topic_id(id);
    let both = DeleteTopicState::default().with_name(Some(wire("x"))).with_topic_id(id);
    let answer = world.ask(6, &DeleteTopicsRequest::default().with_topics(vec![both, state.clone()])).await;
    assert_eq!(answer.responses.iter().map(|r| r.error_code).collect::<Vec<_>>(), [42, 0]);
    assert_eq!(answer.responses[1].name.as_ref().map(|n| &***n), Some("by-id"));
    assert_eq!(world.ask(6, &DeleteTopicsRequest::default().with_topics(vec![state])).await.responses[0].error_code, 100);
    assert_eq!(world.metadata("by-name", false).await.topics[0].error_code, 3);
    assert_ne!(world.create("by-id", 1, &[]).await, id, "a topic created again is another one");
}

#[tokio::test]
async fn configurations_of_topics_and_brokers_are_told() {
    let world = World::new();
    world.create("t", 1, &[("max.message.bytes", "2000")]).await;
    let resource = |kind, name: &str| {
        DescribeConfigsResource::default().with_resource_type(kind).with_resource_name(text(name)).with_configuration_keys(None)
    };
    let resources = vec![resource(2, "t"), resource(4, "3"), resource(2, "unknown"), resource(4, "77"), resource(8, "3")];
    let request = DescribeConfigsRequest::default().with_resources(resources).with_include_synonyms(true).with_include_documentation(true);
    let answer = world.ask(4, &request).await;
    assert_eq!(answer.results.iter().map(|r| r.error_code).collect::<Vec<_>>(), [0, 0, 3, 42, 42]);
    let config = |result: usize, name: &str| answer.results[result].configs.iter().find(|c| &*c.name == name).expect("configured").clone();
    let max = config(0, "max.message.bytes");
    assert_eq!((max.value.as_deref(), max.config_source, max.config_type), (Some("2000"), 1, 3));
    assert_eq!(max.synonyms.iter().map(|s| (s.value.as_deref(), s.source)).collect::<Vec<_>>(), [(Some("2000"), 1), (Some("1048588"), 5)]);
    assert!(max.documentation.is_some());
    assert_eq!(config(0, "retention.ms").config_source, 5);
    assert_eq!(config(1, "advertised.listeners").value.as_deref(), Some("PLAINTEXT://here:9092"));
    assert_eq!(config(1, "num.partitions").value.as_deref(), Some("2"));
    let some = resource(2, "t").with_configuration_keys(Some(vec![text("cleanup.policy"), text("no.such")]));
    let answer = world.ask(1, &DescribeConfigsRequest::default().with_resources(vec![some])).await;
    assert_eq!(answer.results[0].configs.iter().map(|c| c.name.to_string()).collect::<Vec<_>>(), ["cleanup.policy"]);
}

#[tokio::test]
async fn the_cluster_is_described_with_a_controller_that_exists() {
    let world = World::new();
    let answer = world.ask(2, &DescribeClusterRequest::default().with_endpoint_type(1)).await;
    assert_eq!((answer.error_code, answer.controller_id, answer.brokers[0].broker_id), (0, BrokerId(3), BrokerId(3)));
    assert_eq!(world.ask(1, &DescribeClusterRequest::default().with_endpoint_type(2)).await.error_code, 114);
}

/// A failure must not read as "there is no such topic".
#[tokio::test]
async fn an_unavailable_metastore_is_never_an_unknown_topic() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    world.flaky.switch_off();
    assert_eq!(world.metadata("t", true).await.topics[0].error_code, 5, "asked again after a moment");
    assert_eq!(world.create_answer(creatable("u", 1, &[])).await.0, 7);
    assert_eq!(world.ask(13, &MetadataRequest::default().with_topics(None)).await.error_code, 5);
    let all = super::frame(3, 12, b"\0\x01\0\0");
    let answer = world.begin(all).await.expect("begun").answer.await;
    assert!(matches!(answer, Err(Refusal::Unanswerable(_))), "an empty list would be a lie");
}

/// The clock is asked at each request: a process that stood still may be handed one before it knows that its time is up.
#[tokio::test]
async fn who_lost_its_lease_answers_nothing() {
    let me = Identity::leased((*config().me.agent()).clone(), tokio::time::Instant::now() + std::time::Duration::from_hours(1));
    let world = World::with(HandlerConfig { me: me.clone(), ..config() });
    let ask = || world.begin(super::frame(3, 1, &[0, 0, 0, 0]));
    assert!(ask().await.is_ok());
    me.renew((*me.agent()).clone(), tokio::time::Instant::now());
    assert!(matches!(ask().await, Err(Refusal::Fenced)));
}

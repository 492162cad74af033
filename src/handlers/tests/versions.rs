//! Every advertised version of every API gives an answer that clients of that version can read.

use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest, MetadataRequest,
};

use super::{World, creatable, create_request, frame, text, wire};
use crate::handlers::Refusal;
use crate::protocol::FrameError;

/// A client that is newer than we are learns what we know, instead of losing its connection (KIP-511).
#[tokio::test]
async fn api_versions_are_told_in_every_version_and_for_unknown_ones_in_version_0() {
    let world = World::new();
    for version in 0..=4 {
        let answer = world.ask(version, &ApiVersionsRequest::default().with_client_software_name(text("x"))).await;
        let produce = ApiVersion::default().with_api_key(0).with_min_version(0).with_max_version(13);
        assert_eq!((answer.error_code, answer.api_keys.first()), (0, Some(&produce)), "version {version}");
    }
    let answer: ApiVersionsResponse = world.ask_bytes(18, 5, 0, b"whatever").await;
    assert_eq!(answer.error_code, 35);
    assert!(answer.api_keys.iter().any(|key| key.api_key == 18 && key.max_version == 4));
    assert!(answer.api_keys.iter().all(|key| key.api_key != 88), "streams groups are not advertised");
}

#[tokio::test]
async fn an_unknown_version_of_another_api_closes_the_connection() {
    let world = World::new();
    for (key, version) in [(1, 3), (1, 19), (3, 14), (3, -1), (0, 14)] {
        let refused = world.begin(frame(key, version, b"")).await;
        assert!(matches!(refused, Err(Refusal::Frame(FrameError::Version { .. }))), "{key} {version}");
    }
    assert!(matches!(world.begin(frame(3, 1, b"\x7f\xff\xff\xff")).await, Err(Refusal::Codec(_))));
}

#[tokio::test]
async fn topics_are_served_in_every_version() {
    let world = World::new();
    for version in 2..=7 {
        let topic: CreatableTopic = creatable(&format!("t{version}"), 1, &[("retention.ms", "77")]);
        let answer = world.ask(version, &create_request(std::slice::from_ref(&topic))).await;
        assert_eq!(answer.topics[0].error_code, 0, "create {version}");
        assert_eq!(world.ask(version, &create_request(&[topic])).await.topics[0].error_code, 36, "create again {version}");
    }
    for version in 0..=13 {
        let topics = ["t2", "unknown"].map(|name| MetadataRequestTopic::default().with_name(Some(wire(name))));
        let request = MetadataRequest::default().with_topics(Some(topics.to_vec())).with_allow_auto_topic_creation(version < 4);
        let request = request
            .with_include_topic_authorized_operations(version >= 8)
            .with_include_cluster_authorized_operations((8..=10).contains(&version));
        let answer = world.ask(version, &request).await;
        let codes: Vec<i16> = answer.topics.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [0, 0], "metadata {version}: versions below 4 create topics, and later ones then find them");
    }
    for version in 1..=4 {
        let resource =
            DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text("t2")).with_configuration_keys(None);
        let answer = world.ask(version, &DescribeConfigsRequest::default().with_resources(vec![resource])).await;
        assert!(answer.results[0].configs.iter().any(|config| config.value.as_deref() == Some("77")), "configs {version}");
    }
    for version in 0..=2 {
        assert_eq!(world.ask(version, &DescribeClusterRequest::default()).await.brokers.len(), 1, "cluster {version}");
    }
    for version in 1..=5 {
        let request = DeleteTopicsRequest::default().with_topic_names(vec![wire(&format!("t{}", version + 1)), wire("never")]);
        let codes: Vec<i16> = world.ask(version, &request).await.responses.iter().map(|r| r.error_code).collect();
        assert_eq!(codes, [0, 3], "delete {version}");
    }
}

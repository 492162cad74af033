//! Several agents in several racks: whom clients are told to go to.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{
    BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, FetchRequest, FetchResponse, MetadataRequest,
    MetadataResponse,
};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request as Ask};

use super::{World, config, decode, frame, wire};
use crate::clock::SystemClock;
use crate::handlers::{HandlerConfig, Serve as _};
use crate::metastore::memory::MemoryMetastore;
use crate::metastore::{Agent, Identity, LeaseOutcome, Metastore};
use crate::protocol::ClientNotes;
use crate::records::batch::build;
use crate::types::{NodeId, RackCidrs};

const TTL: Duration = Duration::from_hours(1);

async fn join(metastore: &Arc<dyn Metastore>, number: u8, host: &str, rack: &str) -> Agent {
    let agent = Agent {
        broker: NodeId(-1),
        instance: [number; 16],
        advertised_host: host.to_owned(),
        rack: Some(rack.to_owned()).filter(|rack| !rack.is_empty()),
        ..(*config().me.agent()).clone()
    };
    match metastore.acquire_lease(None, &agent, TTL).await.expect("leased") {
        LeaseOutcome::Granted(agent) => agent,
        LeaseOutcome::Held(by) => panic!("held by {by:?}"),
    }
}

/// An agent in rack `b`; with it live two in `a` and another in `b`.
async fn world() -> World {
    let metastore: Arc<dyn Metastore> = Arc::new(MemoryMetastore::new(Arc::new(SystemClock)));
    for (number, host, rack) in [(0, "a0", "a"), (1, "a1", "a"), (2, "b0", "b")] {
        join(&metastore, number, host, rack).await;
    }
    let me = Identity::of_the_only(join(&metastore, 3, "b1", "b").await);
    let rack_cidrs = RackCidrs::parse("10.0.0.0/16=a,10.1.0.0/16=b").expect("a map");
    World::on(&metastore, HandlerConfig { me, rack_cidrs, ..config() })
}

/// Who asks.
#[derive(Clone, Default)]
struct Client {
    id: &'static str,
    host: &'static str,
    notes: ClientNotes,
}

impl Client {
    async fn ask<R: Ask, A: Decodable + HeaderVersion>(&self, world: &World, version: i16, request: &R) -> A {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).expect("encoded");
        let mut request = frame(R::KEY, version, &body);
        request.header.client_id = Some(self.id.to_owned());
        request.header.client_host = self.host.into();
        request.header.notes = self.notes.clone();
        let begun = world.handlers.begin(request).await.expect("begun");
        decode(begun.answer.await.expect("an answer").to_bytes(), version)
    }

    async fn leaders(&self, world: &World) -> BTreeSet<i32> {
        let answer: MetadataResponse = self.ask(world, 9, &MetadataRequest::default().with_topics(None)).await;
        assert_eq!(answer.brokers.iter().map(|b| b.node_id.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(answer.controller_id, BrokerId(0));
        answer.topics[0].partitions.iter().map(|partition| partition.leader_id.0).collect()
    }

    async fn fetch(&self, world: &World, version: i16, rack: &'static str) -> PartitionData {
        let partition = FetchPartition::default().with_fetch_offset(0).with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default().with_topic(wire("t")).with_partitions(vec![partition]);
        let mut request = FetchRequest::default().with_max_wait_ms(1).with_max_bytes(1 << 20).with_topics(vec![topic]);
        if version >= 11 {
            request.rack_id = super::text(rack);
        }
        let answer: FetchResponse = self.ask(world, version, &request).await;
        assert_eq!(answer.responses[0].partitions[0].error_code, 0);
        answer.responses[0].partitions[0].clone()
    }
}

fn set(ids: impl IntoIterator<Item = i32>) -> BTreeSet<i32> {
    ids.into_iter().collect()
}

#[tokio::test]
async fn leaders_are_in_the_rack_of_the_client() {
    let world = world().await;
    world.create("t", 40, &[]).await;
    let nobody = Client::default();
    assert_eq!(nobody.leaders(&world).await, set(0..4));
    for (id, host, expected) in [
        ("app,zone=a", "", set([0, 1])),
        ("app,zone=b", "/10.0.0.1", set([2, 3])),
        ("app", "/10.0.0.1", set([0, 1])),
        ("app", "/10.1.0.1", set([2, 3])),
        ("app", "/10.2.0.1", set(0..4)),
        ("app,zone=nowhere", "/10.1.0.1", set(0..4)),
    ] {
        let client = Client { id, host, ..Client::default() };
        assert_eq!(client.leaders(&world).await, expected, "{id} from {host}");
    }
}

#[tokio::test]
async fn every_rack_has_a_replica_for_its_consumers() {
    let world = world().await;
    world.create("t", 40, &[]).await;
    let (nobody, there) = (Client::default(), Client { id: "zone=b", ..Client::default() });
    let metadata: MetadataResponse = nobody.ask(&world, 9, &MetadataRequest::default().with_topics(None)).await;
    let theirs: MetadataResponse = there.ask(&world, 9, &MetadataRequest::default().with_topics(None)).await;
    for (partition, theirs) in metadata.topics[0].partitions.iter().zip(&theirs.topics[0].partitions) {
        let racks: BTreeSet<bool> = partition.replica_nodes.iter().map(|node| node.0 < 2).collect();
        assert_eq!((partition.replica_nodes.len(), racks.len()), (2, 2), "one in each rack");
        assert_eq!((partition.replica_nodes[0], &partition.replica_nodes), (partition.leader_id, &partition.isr_nodes));
        assert!(partition.replica_nodes.contains(&theirs.leader_id));
    }
    let request = DescribeTopicPartitionsRequest::default().with_response_partition_limit(100);
    let described: DescribeTopicPartitionsResponse = there.ask(&world, 0, &request).await;
    for (partition, theirs) in described.topics[0].partitions.iter().zip(&theirs.topics[0].partitions) {
        assert_eq!((partition.leader_id, &partition.replica_nodes), (theirs.leader_id, &theirs.replica_nodes));
    }
}

/// KIP-392: at once, without records, with the real ends of the log, and not twice in a row.
#[tokio::test]
async fn a_consumer_of_another_rack_is_sent_there_once() {
    let world = world().await;
    world.create("t", 1, &[]).await;
    assert_eq!(world.produce(9, "t", 0, build::batch(3, 10, 0)).await.error_code, 0);
    let there = Client { id: "app", ..Client::default() };
    let hint = there.fetch(&world, 11, "a").await;
    assert!([0, 1].contains(&hint.preferred_read_replica.0), "{hint:?}");
    assert_eq!((hint.high_watermark, hint.records.as_deref().map_or(0, <[u8]>::len)), (3, 0));
    assert_eq!(there.leaders(&world).await, set([hint.preferred_read_replica.0]), "metadata on this connection follows");
    let served = there.fetch(&world, 11, "a").await;
    assert_eq!(served.preferred_read_replica.0, -1, "it came back: where it was sent may be gone");
    assert!(served.records.is_some_and(|records| !records.is_empty()));
    tokio::time::pause();
    tokio::time::advance(Duration::from_mins(3)).await;
    tokio::time::resume();
    assert_eq!(there.fetch(&world, 11, "a").await.preferred_read_replica, hint.preferred_read_replica);
}

#[tokio::test]
async fn consumers_of_this_rack_and_of_none_are_served() {
    let world = world().await;
    world.create("t", 1, &[]).await;
    assert_eq!(world.produce(9, "t", 0, build::batch(3, 10, 0)).await.error_code, 0);
    for (version, rack) in [(11, "b"), (12, ""), (12, "nowhere"), (10, "")] {
        let served = Client::default().fetch(&world, version, rack).await;
        assert_eq!(served.preferred_read_replica.0, -1, "{version} {rack}");
        assert!(served.records.is_some_and(|records| !records.is_empty()), "{version} {rack}");
    }
}

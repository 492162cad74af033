//! Handlers on real rooms in memory, asked as clients ask: requests are encoded and answers decoded by the kafka-protocol crate.

mod admin;
mod bad_members;
mod configs;
mod groups;
mod logs;
mod members;
mod racks;
mod records;
mod topics;
mod versions;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse, TopicName,
};
use kafka_protocol::messages::{create_topics_request, metadata_request};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request as Ask, StrBytes};
use uuid::Uuid;

use super::broker::{BrokerParts, HandlerConfig};
use super::serve::{Begun, Refusal, Reply, Serve as _};
use super::{DEFAULT_MAX_MESSAGE_BYTES, Handlers};
use crate::app::{RoomParts, Rooms};
use crate::cache::{CacheConfig, ObjectCache};
use crate::clock::{Ids, RandomIds, SystemClock};
use crate::config::{Config, Mode};
use crate::metastore::flaky::Flaky;
use crate::metastore::memory::MemoryMetastore;
use crate::metastore::{Agent, Identity, Metastore};
use crate::metrics::Metrics;
use crate::protocol::{Request, parse_request};
use crate::store::flaky::FlakyStore;
use crate::store::memory::MemoryStore;
use crate::store::{ObjectBody, ObjectStore};
use crate::tasks::Tasks;
use crate::types::ObjectId;

/// One agent without its sockets.
struct World {
    handlers: Handlers,
    /// The metastore as the handlers see it, to be switched off.
    flaky: Arc<Flaky>,
    store: Arc<FlakyStore>,
    metrics: Arc<Metrics>,
    _rooms: Rooms,
}

fn config() -> HandlerConfig {
    let agent = Agent { rack: Some("r".to_owned()), ..Agent::sample(3, "here") };
    HandlerConfig {
        cluster_id: "cluster".to_owned(),
        me: Identity::of_the_only(agent),
        auto_create_topics: true,
        default_partitions: 2,
        max_partitions: 100,
        message_max_bytes: DEFAULT_MAX_MESSAGE_BYTES,
        fetch_max_bytes: 50 << 20,
        max_request_bytes: 100 << 20,
        max_connections: 100,
        connection_idle_ms: 600_000,
        log_dir: "memory".to_owned(),
        rack_cidrs: crate::types::RackCidrs::default(),
        deferred: false,
    }
}

impl World {
    fn new() -> World {
        World::with(config())
    }

    fn with(config: HandlerConfig) -> World {
        World::on(&(Arc::new(MemoryMetastore::new(Arc::new(SystemClock))) as _), config)
    }

    /// One of several agents on the same metastore, each with a store of its own.
    fn on(memory: &Arc<dyn Metastore>, config: HandlerConfig) -> World {
        let ids: Arc<dyn Ids> = Arc::new(RandomIds::seeded(SystemClock, config.me.agent().node.0.unsigned_abs().into()));
        let flaky = Arc::new(Flaky::new(Arc::clone(memory), Arc::clone(&ids)));
        let flaky_store = Arc::new(FlakyStore::new(Arc::new(MemoryStore::new()), Arc::clone(&ids)));
        let store: Arc<dyn ObjectStore> = Arc::clone(&flaky_store) as _;
        let (tasks, metrics) = (Tasks::new(), Arc::new(Metrics::new().expect("metrics")));
        let cache = ObjectCache::new(Arc::clone(&store), None, CacheConfig::with_capacity(64 << 20), tasks.clone(), metrics.cache.clone());
        let keep = cache.clone();
        let parts = RoomParts {
            metastore: Arc::clone(&flaky) as _,
            store,
            reads: Arc::new(cache),
            keep: Arc::new(move |object: ObjectId, body: ObjectBody| {
                let keep = keep.clone();
                Box::pin(async move { keep.insert(object, body).await })
            }),
            clock: Arc::new(SystemClock),
            ids: Arc::clone(&ids),
            me: config.me.clone(),
            metrics: Arc::clone(&metrics),
            traces: crate::traces::Traces::off(),
        };
        let (settings, _) = Config::from_settings(Mode::Dev, Some(PathBuf::from("nowhere")), &BTreeMap::new()).expect("defaults");
        let rooms = Rooms::start(&settings, &parts, &tasks);
        let broker = BrokerParts {
            metastore: Arc::clone(&flaky) as _,
            producer: Arc::clone(&rooms.producer) as _,
            reader: Arc::clone(&rooms.reader) as _,
            watermarks: Arc::clone(&rooms.watermarks),
            groups: rooms.groups.clone(),
            clock: Arc::new(SystemClock),
            ids,
            requests: metrics.requests.clone(),
            produce: metrics.produce.clone(),
            fetch: metrics.fetch.clone(),
        };
        World { handlers: Handlers::new(config, broker), flaky, store: flaky_store, metrics, _rooms: rooms }
    }

    async fn begin(&self, request: Request) -> Result<Begun, Refusal> {
        self.handlers.begin(request).await
    }

    /// Asks in `version` and decodes the answer.
    async fn ask<R: Ask>(&self, version: i16, request: &R) -> R::Response {
        self.ask_as::<R, R::Response>(version, version, request).await
    }

    /// As [`World::ask`], in the layout of a version the crate knows.
    async fn ask_as<R: Ask, A: Decodable + HeaderVersion>(&self, version: i16, layout: i16, request: &R) -> A {
        let mut body = BytesMut::new();
        request.encode(&mut body, layout).expect("encoded");
        self.ask_bytes(R::KEY, version, layout, &body).await
    }

    async fn ask_bytes<A: Decodable + HeaderVersion>(&self, key: i16, version: i16, layout: i16, body: &[u8]) -> A {
        let begun = self.begin(frame(key, version, body)).await.expect("begun");
        assert_eq!(begun.reply, Reply::InOrder);
        let rope = begun.answer.await.expect("an answer");
        decode(rope.to_bytes(), layout)
    }

    async fn create(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Uuid {
        let answer = self.ask(7, &create_request(&[creatable(name, partitions, configs)])).await;
        assert_eq!(answer.topics[0].error_code, 0, "{:?}", answer.topics[0].error_message);
        answer.topics[0].topic_id
    }

    async fn create_answer(&self, topic: create_topics_request::CreatableTopic) -> (i16, String) {
        let answer: CreateTopicsResponse = self.ask(5, &create_request(&[topic])).await;
        let message = answer.topics[0].error_message.as_deref().unwrap_or_default().to_owned();
        (answer.topics[0].error_code, message)
    }

    async fn metadata(&self, name: &str, may_create: bool) -> MetadataResponse {
        let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(wire(name)));
        self.ask(9, &MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(may_create)).await
    }

    async fn topic_id(&self, name: &str) -> Uuid {
        let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(wire(name)));
        self.ask(10, &MetadataRequest::default().with_topics(Some(vec![topic]))).await.topics[0].topic_id
    }

    /// Produces one batch with acks=all.
    async fn produce(&self, version: i16, topic: &str, partition: i32, batch: impl Into<Bytes>) -> PartitionProduceResponse {
        let answer: ProduceResponse = self.ask(version, &produce_request(-1, topic, partition, batch)).await;
        answer.responses[0].partition_responses[0].clone()
    }

    fn metrics(&self) -> String {
        self.metrics.render().expect("text")
    }
}

fn wire(name: &str) -> TopicName {
    TopicName(text(name))
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A request with a header of its version.
fn frame(key: i16, version: i16, body: &[u8]) -> Request {
    let api = crate::protocol::versions::row(key).expect("a known API");
    let mut frame = BytesMut::new();
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(42);
    frame.put_i16(-1);
    if api.is_flexible(version) {
        frame.put_u8(0);
    }
    frame.put_slice(body);
    parse_request(frame.freeze()).expect("a request")
}

fn decode<A: Decodable + HeaderVersion>(mut frame: Bytes, version: i16) -> A {
    use kafka_protocol::messages::ResponseHeader;
    let length = frame.split_to(4);
    assert_eq!(u32::from_be_bytes(length[..].try_into().expect("four bytes")) as usize, frame.len());
    let header = ResponseHeader::decode(&mut frame, A::header_version(version)).expect("a header");
    assert_eq!(header.correlation_id, 42);
    let answer = A::decode(&mut frame, version).expect("an answer");
    assert!(frame.is_empty(), "bytes after the answer");
    answer
}

fn creatable(name: &str, partitions: i32, configs: &[(&str, &str)]) -> create_topics_request::CreatableTopic {
    let config = |(name, value): &(&str, &str)| {
        create_topics_request::CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
    };
    create_topics_request::CreatableTopic::default()
        .with_name(wire(name))
        .with_num_partitions(partitions)
        .with_replication_factor(-1)
        .with_configs(configs.iter().map(config).collect())
}

fn create_request(topics: &[create_topics_request::CreatableTopic]) -> CreateTopicsRequest {
    CreateTopicsRequest::default().with_topics(topics.to_vec()).with_timeout_ms(1_000)
}

fn produce_request(acks: i16, topic: &str, partition: i32, batch: impl Into<Bytes>) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_index(partition).with_records(Some(batch.into()));
    let topic = TopicProduceData::default().with_name(wire(topic)).with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(10_000).with_topic_data(vec![topic])
}

//! Configurations: described, changed, and at work.

use bytes::Bytes;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest, ListConfigResourcesRequest, alter_configs_request,
};
use uuid::Uuid;

use super::logs::fetch;
use super::{World, text};
use crate::clock::{Clock as _, SystemClock};
use crate::handlers::configs::{Config, Values};
use crate::handlers::group_configs::GROUP as GROUP_TABLE;
use crate::handlers::topic_configs::TOPIC as TOPIC_TABLE;
use crate::records::batch::build::{batch, with_records};
use crate::records::batch::{BatchHeader, Codec};
use crate::records::for_each_record;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

type Wish<'a> = (&'a str, i8, Option<&'a str>);

fn resource(kind: i8, name: &str, wishes: &[Wish<'_>]) -> AlterConfigsResource {
    let config = |(name, operation, value): &Wish<'_>| {
        AlterableConfig::default().with_name(text(name)).with_config_operation(*operation).with_value(value.map(text))
    };
    AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(wishes.iter().map(config).collect())
}

impl World {
    /// The code and message for each resource.
    async fn incrementally(&self, version: i16, resources: Vec<AlterConfigsResource>) -> Vec<(i16, String)> {
        let answer = self.ask(version, &IncrementalAlterConfigsRequest::default().with_resources(resources)).await;
        answer.responses.iter().map(|r| (r.error_code, r.error_message.as_deref().unwrap_or_default().to_owned())).collect()
    }

    async fn alter_topic(&self, wishes: &[Wish<'_>]) -> (i16, String) {
        self.incrementally(1, vec![resource(TOPIC, "t", wishes)]).await.remove(0)
    }

    async fn replace(&self, version: i16, kind: i8, name: &str, configs: &[(&str, &str)]) -> i16 {
        let config = |(name, value): &(&str, &str)| {
            alter_configs_request::AlterableConfig::default().with_name(text(name)).with_value(Some(text(value)))
        };
        let resource = alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configs(configs.iter().map(config).collect());
        self.ask(version, &AlterConfigsRequest::default().with_resources(vec![resource])).await.responses[0].error_code
    }

    async fn configs(&self, kind: i8, name: &str) -> Vec<DescribeConfigsResourceResult> {
        let resource =
            DescribeConfigsResource::default().with_resource_type(kind).with_resource_name(text(name)).with_configuration_keys(None);
        let request =
            DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true).with_include_documentation(true);
        let mut answer = self.ask(4, &request).await;
        assert_eq!(answer.results[0].error_code, 0, "{:?}", answer.results[0].error_message);
        answer.results.remove(0).configs
    }

    /// Value and source of one configuration.
    async fn value(&self, kind: i8, resource: &str, name: &str) -> (String, i8) {
        let configs = self.configs(kind, resource).await;
        let config = configs.iter().find(|config| &*config.name == name).expect("listed");
        (config.value.as_deref().unwrap_or_default().to_owned(), config.config_source)
    }
}

#[tokio::test]
async fn a_configuration_is_set_unset_and_its_list_grown() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    assert_eq!(world.value(TOPIC, "t", "retention.ms").await, ("604800000".to_owned(), 5));
    assert_eq!(world.alter_topic(&[("retention.ms", SET, Some("5")), ("cleanup.policy", APPEND, Some("compact"))]).await.0, 0);
    assert_eq!(world.value(TOPIC, "t", "retention.ms").await, ("5".to_owned(), 1));
    assert_eq!(world.value(TOPIC, "t", "cleanup.policy").await, ("delete,compact".to_owned(), 1));
    assert_eq!(world.alter_topic(&[("retention.ms", DELETE, None), ("cleanup.policy", SUBTRACT, Some("delete"))]).await.0, 0);
    assert_eq!(world.value(TOPIC, "t", "retention.ms").await, ("604800000".to_owned(), 5));
    assert_eq!(world.value(TOPIC, "t", "cleanup.policy").await, ("compact".to_owned(), 1));
    for version in 0..=2 {
        assert_eq!(world.replace(version, TOPIC, "t", &[("retention.ms", "7")]).await, 0);
        assert_eq!(world.value(TOPIC, "t", "retention.ms").await, ("7".to_owned(), 1));
        assert_eq!(world.value(TOPIC, "t", "cleanup.policy").await, ("delete".to_owned(), 5), "all others go back");
        assert_eq!(world.alter_topic(&[("cleanup.policy", SET, Some("compact"))]).await.0, 0);
    }
}

#[tokio::test]
async fn what_cannot_work_is_refused_with_a_reason_and_nothing_is_changed() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    for (wish, code, reason) in [
        (("no.such", SET, Some("1")), 40, "Unknown topic config name: no.such"),
        (("retention.ms", SET, Some("soon")), 40, "Invalid value soon for configuration retention.ms"),
        (("retention.ms", SET, None), 42, "Null value not supported for : retention.ms"),
        (("retention.ms", APPEND, Some("1")), 40, "not a list"),
        (("retention.ms", 9, Some("1")), 42, "not an operation"),
        (("compression.type", SET, Some("brotli")), 40, "uncompressed, zstd, lz4, snappy, gzip, producer"),
        (("remote.storage.enable", SET, Some("true")), 40, "there is no second tier"),
        (("min.compaction.lag.ms", SET, Some("9")), 40, "conflict"),
    ] {
        let (is, message) = world.alter_topic(&[("max.compaction.lag.ms", SET, Some("5")), wish]).await;
        assert_eq!(is, code, "{wish:?}");
        assert!(message.contains(reason), "{message}");
    }
    assert_eq!(world.alter_topic(&[("retention.ms", SET, Some("1")), ("retention.ms", DELETE, None)]).await.0, 42, "twice");
    assert!(world.configs(TOPIC, "t").await.iter().all(|config| config.config_source == 5));
    let twice = vec![resource(TOPIC, "t", &[]), resource(TOPIC, "t", &[])];
    assert_eq!(world.incrementally(1, twice).await.iter().map(|(code, _)| *code).collect::<Vec<_>>(), [42, 42]);
    let others = vec![
        resource(TOPIC, "unknown", &[("retention.ms", SET, Some("1"))]),
        resource(TOPIC, "not/legal", &[]),
        resource(BROKER, "3", &[("log.retention.ms", SET, Some("1"))]),
        resource(BROKER, "", &[("log.retention.ms", SET, Some("1"))]),
        resource(BROKER_LOGGER, "3", &[("root", SET, Some("DEBUG"))]),
        resource(CLIENT_METRICS, "m", &[("interval.ms", SET, Some("100"))]),
        resource(GROUP, "", &[]),
        resource(7, "x", &[]),
    ];
    assert_eq!(world.incrementally(0, others).await.iter().map(|(code, _)| *code).collect::<Vec<_>>(), [3, 17, 42, 42, 42, 42, 42, 42]);
}

#[tokio::test]
async fn validating_changes_nothing() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    let ask = |value: &str| {
        let resources = vec![resource(TOPIC, "t", &[("retention.ms", SET, Some(value))])];
        IncrementalAlterConfigsRequest::default().with_resources(resources).with_validate_only(true)
    };
    assert_eq!(world.ask(1, &ask("5")).await.responses[0].error_code, 0);
    assert_eq!(world.ask(1, &ask("-5")).await.responses[0].error_code, 40);
    assert_eq!(world.value(TOPIC, "t", "retention.ms").await.1, 5);
}

#[tokio::test]
async fn all_is_told_with_types_meanings_and_synonyms() {
    let world = World::new();
    world.create("t", 1, &[("max.message.bytes", "1000")]).await;
    let configs = world.configs(TOPIC, "t").await;
    assert!(configs.iter().all(|config| config.documentation.as_ref().is_some_and(|doc| !doc.is_empty()) && !config.read_only));
    let find = |name: &str| configs.iter().find(|config| &*config.name == name).expect("listed");
    let synonyms = find("max.message.bytes").synonyms.iter().map(|s| (s.name.to_string(), s.value.as_deref().map(str::to_owned), s.source));
    let expected = [("max.message.bytes", "1000", 1), ("message.max.bytes", "1048588", 5)];
    assert_eq!(synonyms.collect::<Vec<_>>(), expected.map(|(name, value, source)| (name.to_owned(), Some(value.to_owned()), source)));
    let kinds = ["preallocate", "compression.type", "segment.bytes", "retention.ms", "min.cleanable.dirty.ratio", "cleanup.policy"];
    assert_eq!(kinds.map(|name| find(name).config_type), [1, 2, 3, 5, 6, 7]);

    let broker = world.configs(BROKER, "3").await;
    assert!(broker.iter().all(|config| config.read_only && config.documentation.is_some()));
    assert!(broker.is_sorted_by(|a, b| *a.name < *b.name));
    assert_eq!(world.value(BROKER, "3", "advertised.listeners").await, ("PLAINTEXT://here:9092".to_owned(), 4));
    assert!(world.configs(BROKER, "").await.is_empty());
    assert!(world.configs(CLIENT_METRICS, "nothing").await.is_empty());
}

#[tokio::test]
async fn groups_have_configurations_before_they_exist() {
    let world = World::new();
    let (heartbeat, session) = ("consumer.heartbeat.interval.ms", "consumer.session.timeout.ms");
    assert_eq!(world.value(GROUP, "g", heartbeat).await, ("5000".to_owned(), 5));
    let alter = async |wishes: &[Wish<'_>]| world.incrementally(1, vec![resource(GROUP, "g", wishes)]).await.remove(0);
    assert_eq!(alter(&[(heartbeat, SET, Some("1000"))]).await.0, 0);
    assert_eq!(world.value(GROUP, "g", heartbeat).await, ("1000".to_owned(), 8));
    assert_eq!(alter(&[(session, SET, Some("1000"))]).await.0, 40, "not longer than the heartbeat");
    assert_eq!(alter(&[("retention.ms", SET, Some("1"))]).await, (40, "Unknown group config name: retention.ms".to_owned()));
    world.create("t", 1, &[]).await;
    let list = async |version, kinds: Vec<i8>| {
        let answer = world.ask(version, &ListConfigResourcesRequest::default().with_resource_types(kinds)).await;
        (answer.error_code, answer.config_resources.iter().map(|r| (r.resource_type, r.resource_name.to_string())).collect::<Vec<_>>())
    };
    let all = [(TOPIC, "t"), (BROKER, "3"), (GROUP, "g")].map(|(kind, name)| (kind, name.to_owned()));
    assert_eq!(list(1, vec![]).await, (0, all.to_vec()));
    assert_eq!(list(1, vec![GROUP]).await, (0, all[2..].to_vec()));
    assert_eq!(list(0, vec![]).await, (0, vec![]), "version 0 asks for telemetry only");
    assert_eq!(list(1, vec![3]).await.0, 35);
    assert_eq!(alter(&[(heartbeat, DELETE, None)]).await.0, 0);
    assert_eq!(list(1, vec![GROUP]).await, (0, vec![]));
}

#[tokio::test]
async fn the_largest_batch_is_what_the_topic_says_now() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    assert_eq!(world.produce(9, "t", 0, batch(1, 200, SystemClock.now().0)).await.error_code, 0);
    assert_eq!(world.alter_topic(&[("max.message.bytes", SET, Some("150"))]).await.0, 0);
    assert_eq!(world.produce(9, "t", 0, batch(1, 200, SystemClock.now().0)).await.error_code, 10, "at once");
    assert_eq!(world.produce(9, "t", 0, batch(1, 5, SystemClock.now().0)).await.error_code, 0);
}

#[tokio::test]
async fn timestamps_are_the_topics_business() {
    let world = World::new();
    world.create("t", 1, &[]).await;
    assert_eq!(world.produce(9, "t", 0, batch(1, 5, 1_000)).await.error_code, 0);
    assert_eq!(world.alter_topic(&[("message.timestamp.before.max.ms", SET, Some("60000"))]).await.0, 0);
    assert_eq!(world.produce(9, "t", 0, batch(1, 5, 1_000)).await.error_code, 32);
    let far = 9_000_000_000_000;
    assert_eq!(world.produce(9, "t", 0, batch(1, 5, far)).await.error_code, 32, "an hour ahead by default");
    assert_eq!(world.alter_topic(&[("message.timestamp.after.max.ms", SET, Some("9223372036854775807"))]).await.0, 0);
    assert_eq!(world.produce(9, "t", 0, batch(1, 5, far)).await.error_code, 0);
    assert_eq!(world.alter_topic(&[("message.timestamp.type", SET, Some("LogAppendTime"))]).await.0, 0);
    let answer = world.produce(9, "t", 0, batch(1, 5, 1_000)).await;
    assert_eq!(answer.error_code, 0);
    assert!(answer.log_append_time_ms > 1_700_000_000_000);
}

/// The batch at `offset` of the topic `t`.
async fn stored(world: &World, offset: i64) -> Bytes {
    let bytes = fetch(world, 11, "t", Uuid::nil(), 0, offset).await.records.expect("records");
    let len = BatchHeader::read(&bytes).and_then(|header| header.total_len()).expect("a batch");
    bytes.slice(..len)
}

#[tokio::test]
async fn batches_are_compressed_as_the_topic_says() {
    let world = World::new();
    world.create("t", 1, &[("compression.type", "gzip"), ("max.message.bytes", "3000")]).await;
    let now = SystemClock.now().0;
    assert_eq!(world.produce(9, "t", 0, batch(3, 500, now)).await.error_code, 0);
    let codec = |bytes: &[u8]| BatchHeader::read(bytes).expect("a batch").codec().expect("known");
    let mut codecs = Vec::new();
    for (name, offset) in [("gzip", 3), ("snappy", 6), ("lz4", 9), ("zstd", 12), ("uncompressed", 15), ("producer", 18)] {
        assert_eq!(world.alter_topic(&[("compression.type", SET, Some(name))]).await.0, 0);
        let answer = world.produce(9, "t", 0, batch(3, 500, now)).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, offset), "{name}");
        let bytes = stored(&world, offset).await;
        codecs.push(codec(&bytes));
        let mut records = 0;
        let counted = for_each_record(&bytes, |_| {
            records += 1;
            std::ops::ControlFlow::<()>::Continue(())
        });
        assert_eq!((counted, records), (Ok(None), 3), "{name}");
    }
    assert_eq!(codecs, [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd, Codec::None, Codec::None]);
    // The measure is that of the batch as it is stored, too.
    assert_eq!(world.alter_topic(&[("compression.type", SET, Some("zstd"))]).await.0, 0);
    let dense = stored(&world, 12).await;
    let (records, sent) = (stored(&world, 15).await, batch(20, 500, now));
    assert!(dense.len() < records.len() && sent.len() > 3_000);
    assert_eq!(world.produce(9, "t", 0, sent).await.error_code, 10, "what is sent must fit");
    assert_eq!(world.alter_topic(&[("compression.type", SET, Some("uncompressed")), ("max.message.bytes", SET, Some("1000"))]).await.0, 0);
    assert_eq!(world.produce(9, "t", 0, dense.to_vec()).await.error_code, 10, "and what is stored");
    let broken = with_records(1, now, 2, b"no snappy");
    assert_eq!(world.produce(9, "t", 0, broken).await.error_code, 87);
}

/// A table of configurations as docs/PROTOCOL.md has it.
fn table(configs: &[Config]) -> String {
    let line = |config: &Config| {
        let values = match config.values {
            Values::Boolean => "true, false".to_owned(),
            Values::Int(min, i32::MAX) => format!("from {min}"),
            Values::Int(min, max) => format!("{min} to {max}"),
            Values::Long(min) => format!("from {min}"),
            Values::Ratio => "0 to 1".to_owned(),
            Values::OneOf(allowed) => allowed.join(", "),
            Values::ListOf(allowed) => format!("list of {}", allowed.join(", ")),
            Values::List => "list".to_owned(),
            Values::Only(_, why) => format!("only {}: {why}", config.default),
        };
        let default = if config.default.is_empty() { "empty" } else { config.default };
        format!("| `{}` | {values} | {default} | {} |\n", config.name, config.doc)
    };
    format!("| Name | Values | Default | Meaning |\n|---|---|---|---|\n{}", configs.iter().map(line).collect::<String>())
}

#[test]
fn the_protocol_document_has_the_tables_of_configurations() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PROTOCOL.md");
    for (name, configs) in [("topic", TOPIC_TABLE.configs), ("group", GROUP_TABLE.configs)] {
        let document = std::fs::read_to_string(&path).expect("docs/PROTOCOL.md");
        let (begin, end) = (format!("<!-- {name} configurations: generated -->\n"), "<!-- end -->");
        let (before, rest) = document.split_once(&begin).expect("a marker");
        let (is, after) = rest.split_once(end).expect("an end");
        let table = table(configs);
        if is != table && std::env::var_os("YAKS_TEST_UPDATE_DOCS").is_some() {
            std::fs::write(&path, format!("{before}{begin}{table}{end}{after}")).expect("written");
        } else {
            assert_eq!(is, table, "run with YAKS_TEST_UPDATE_DOCS=1 to write it anew");
        }
    }
}

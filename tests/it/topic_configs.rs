//! Configurations of topics at work, seen by a real client.

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use super::support::{Broker, assert_exactly, blocking, client, producer, read, send};

/// Whatever the producer did, and whatever the topic wants: librdkafka reads what was sent.
#[tokio::test(flavor = "multi_thread")]
async fn batches_that_an_agent_compressed_are_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::dev(dir.path(), &[]);
    let admin: AdminClient<DefaultClientContext> = client(&broker.address, &[]).create().expect("a client");
    for wanted in ["gzip", "snappy", "lz4", "zstd", "uncompressed"] {
        let topic = NewTopic::new(wanted, 1, TopicReplication::Fixed(1)).set("compression.type", wanted);
        let made = admin.create_topics(&[topic], &AdminOptions::new()).await.expect("an answer");
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        let mut sent = Vec::new();
        for own in ["none", "gzip", "snappy", "lz4", "zstd"] {
            let producer = producer(&broker.address, &[("compression.type", own), ("linger.ms", "20")]);
            let values: Vec<String> = (0..50).map(|n| format!("{own} {n} {}", "and so on ".repeat(200))).collect();
            futures_util::future::join_all(values.iter().map(|value| send(&producer, wanted, 0, value))).await;
            sent.extend(values);
        }
        let (address, count) = (broker.address.clone(), sent.len());
        let found = blocking(move || read(&address, wanted, 0, 0, count)).await;
        assert_exactly(&found, &sent);
    }
}

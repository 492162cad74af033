//! Real clients in a rack: where they read.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::Instant;

use super::support::{Broker, LONG, Services, blocking, client, create_topic, producer, send};

const PARTITIONS: i32 = 12;

/// Records that this agent gave to consumers.
fn served(agent: &Broker) -> u64 {
    let log = agent.log();
    let address = log.split("metrics=").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("it says where").trim_matches('"');
    let mut stream = std::net::TcpStream::connect(address).expect("metrics are served");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: yaks\r\nConnection: close\r\n\r\n").expect("asked");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let line = text.lines().find_map(|line| line.strip_prefix("yaks_fetch_records_total{topic=\"t\"} "));
    line.map_or(0, |count| count.trim().parse().expect("a number"))
}

/// Reads every partition to its end with librdkafka.
async fn read_all(address: String, settings: Vec<(&'static str, &'static str)>) -> usize {
    blocking(move || {
        let settings: Vec<_> = settings.into_iter().chain([("group.id", "g"), ("enable.auto.commit", "false")]).collect();
        let consumer: BaseConsumer = client(&address, &settings).create().expect("a consumer");
        let mut all = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            all.add_partition_offset("t", partition, Offset::Beginning).expect("a partition");
        }
        consumer.assign(&all).expect("assigned");
        let (mut read, began) = (0, Instant::now());
        while read < PARTITIONS as usize && began.elapsed() < LONG {
            read += usize::from(matches!(consumer.poll(Duration::from_millis(200)), Some(Ok(_))));
        }
        read
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_read_from_the_agents_of_their_rack() {
    let services = Services::start().await;
    let settings = |rack| [("YAKS_RACK", rack), ("YAKS_METRICS_PORT", "0")];
    let (a, b) = (Broker::agent(&services, &settings("a")), Broker::agent(&services, &settings("b")));
    create_topic(&a.address, "t", PARTITIONS).await;
    let producer = producer(&a.address, &[("linger.ms", "0")]);
    for partition in 0..PARTITIONS {
        send(&producer, "t", partition, "value").await;
    }
    // Told by client.rack in its fetches only: it is sent on (KIP-392).
    assert_eq!(read_all(a.address.clone(), vec![("client.rack", "b")]).await, PARTITIONS as usize);
    // A client that is sent on before it has a connection there comes back for a log or two, and is served.
    let (of_a, of_b) = (served(&a), served(&b));
    assert!(of_a <= PARTITIONS as u64 / 4 && of_b >= PARTITIONS as u64 * 3 / 4, "from its rack {of_b}, from the other {of_a}");
    // Told by its client id, before it has fetched anything.
    assert_eq!(read_all(b.address.clone(), vec![("client.id", "app,zone=a")]).await, PARTITIONS as usize);
    assert_eq!((served(&a) - of_a, served(&b) - of_b), (PARTITIONS as u64, 0), "all from its rack");
}

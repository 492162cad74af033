//! Throughput out: a topic from offset 0 to its end.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::time::Instant;

use super::clients::{BenchError, PATIENCE, consumer};
use super::options::Traffic;
use super::report::{Better, Figure};
use super::target::Target;

/// A consumer that is connected and knows the topic's leaders, as one in use does.
///
/// # Errors
/// No broker answers.
pub(super) fn connected(target: &Target, traffic: &Traffic, topic: &str) -> Result<BaseConsumer, BenchError> {
    let client = consumer(target, traffic)?;
    client.fetch_metadata(Some(topic), PATIENCE)?;
    Ok(client)
}

/// Lets `client` read every partition of `topic` from its beginning.
///
/// # Errors
/// The client refuses.
pub(super) fn assign(client: &BaseConsumer, traffic: &Traffic, topic: &str) -> Result<(), BenchError> {
    let mut list = TopicPartitionList::new();
    for partition in (0..).take(traffic.partitions.get() as usize) {
        list.add_partition_offset(topic, partition, Offset::Offset(0))?;
    }
    Ok(client.assign(&list)?)
}

/// Reads `records` records of `topic`; the clock runs from the assignment to the last record.
///
/// # Errors
/// They do not come.
pub(super) fn consume(target: &Target, traffic: &Traffic, topic: &str, records: u64) -> Result<Vec<Figure>, BenchError> {
    let client = connected(target, traffic, topic)?;
    let start = Instant::now();
    assign(&client, traffic, topic)?;
    let (mut read, mut bytes) = (0, 0);
    let mut last_news = start;
    while read < records {
        match client.poll(Duration::from_millis(100)) {
            Some(message) => {
                bytes += message?.payload_len();
                read += 1;
            }
            None if last_news.elapsed() > PATIENCE => return Err(BenchError::NotRead { read, expected: records }),
            None => continue,
        }
        // A clock per record would be a good part of what the client does.
        if read % 1024 == 0 {
            last_news = Instant::now();
        }
    }
    let elapsed = start.elapsed().as_secs_f64();
    Ok(vec![
        Figure::new("out".to_owned(), "MB/s", bytes as f64 / 1e6 / elapsed, Better::Higher),
        Figure::new("out".to_owned(), "records/s", records as f64 / elapsed, Better::Higher),
    ])
}

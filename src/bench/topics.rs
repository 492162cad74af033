//! Topics of the bench: made, measured while they are made, and deleted.

use std::time::Duration;

use hdrhistogram::Histogram;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use tokio::time::Instant;

use super::clients::{BenchError, configuration};
use super::options::Traffic;
use super::report::{Figure, latencies, new_histogram};
use super::target::Target;
use crate::clock::{Ids as _, RandomIds};

const TIMEOUT: Duration = Duration::from_secs(30);

/// A client for topics of one target.
pub(super) struct Topics {
    admin: AdminClient<DefaultClientContext>,
    partitions: i32,
}

impl Topics {
    /// # Errors
    /// No broker answers, or a setting is refused.
    pub(super) fn open(target: &Target, traffic: &Traffic) -> Result<Topics, BenchError> {
        let admin: AdminClient<DefaultClientContext> = configuration(target, traffic).create()?;
        admin.inner().fetch_metadata(None, TIMEOUT)?;
        Ok(Topics { admin, partitions: i32::try_from(traffic.partitions.get()).unwrap_or(i32::MAX) })
    }

    /// Makes a topic with a name of its own, and waits until each partition has a leader.
    ///
    /// # Errors
    /// The broker refuses, or does not answer.
    pub(super) async fn create(&self, partitions: i32) -> Result<String, BenchError> {
        let name = format!("bench-{:016x}", RandomIds::from_system().below(u64::MAX));
        self.create_named(&name, partitions).await?;
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let metadata = self.admin.inner().fetch_metadata(Some(&name), TIMEOUT)?;
            let led = |t: &rdkafka::metadata::MetadataTopic| t.error().is_none() && t.partitions().iter().all(|p| p.leader() >= 0);
            if metadata.topics().first().is_some_and(|t| led(t) && t.partitions().len() == partitions as usize) {
                return Ok(name);
            }
            if Instant::now() > deadline {
                return Err(BenchError::Topic(name, "no leader for every partition".to_owned()));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Makes a topic as wide as the traffic asks for.
    ///
    /// # Errors
    /// As [`Topics::create`].
    pub(super) async fn create_for_traffic(&self) -> Result<String, BenchError> {
        self.create(self.partitions).await
    }

    async fn create_named(&self, name: &str, partitions: i32) -> Result<(), BenchError> {
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
        for result in self.admin.create_topics([&topic], &options).await? {
            result.map_err(|(topic, code)| BenchError::Topic(topic, code.to_string()))?;
        }
        Ok(())
    }

    /// Deletes topics; what fails is said, and no reason to stop.
    pub(super) async fn delete(&self, names: &[String]) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        match self.admin.delete_topics(&names, &options).await {
            Ok(results) => {
                for (topic, code) in results.into_iter().filter_map(Result::err) {
                    eprintln!("topic {topic} stays: {code}");
                }
            }
            Err(error) => eprintln!("the topics stay: {error}"),
        }
    }

    /// The time to create each of `count` topics, one after the other; returns their names too.
    ///
    /// # Errors
    /// The broker refuses, or does not answer.
    pub(super) async fn measure(&self, count: u32) -> Result<(Vec<Figure>, Vec<String>), BenchError> {
        let mut times: Histogram<u64> = new_histogram()?;
        let mut names = Vec::new();
        let prefix = RandomIds::from_system().below(u64::MAX);
        for number in 0..count {
            let name = format!("bench-{prefix:016x}-{number}");
            let start = Instant::now();
            self.create_named(&name, self.partitions).await?;
            times.saturating_record(start.elapsed().as_nanos() as u64);
            names.push(name);
        }
        Ok((latencies("create topic", &times), names))
    }
}

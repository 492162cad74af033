//! The bench's command line.

use std::num::{NonZeroU32, NonZeroU64};

use clap::{Args, Parser, Subcommand};

use super::target::{ProcessArgument, TargetArgument};
use crate::oracle::parse_setting;

/// Measures a Kafka broker with librdkafka: throughput, latency, connections, and what it costs the broker's processes.
///
/// MB are 10^6 bytes of values, GiB are 2^30. Exits with 2 if something could not be measured.
#[derive(Clone, Debug, Parser)]
#[command(name = "bench", version)]
pub struct Options {
    /// Brokers to begin with: HOST:PORT[,HOST:PORT...]
    #[arg(long, global = true, default_value = "localhost:9092")]
    pub brokers: String,
    /// A process of the broker, PID or NAME=PID, measured with all its children; may be repeated
    #[arg(long = "pid", global = true, value_name = "[NAME=]PID")]
    pub processes: Vec<ProcessArgument>,
    /// A second broker: rounds alternate between the two, and ratios are printed
    #[arg(long, global = true, value_name = "HOST:PORT[,pid=[NAME=]PID...]")]
    pub versus: Option<TargetArgument>,
    /// What the first broker is called in the table
    #[arg(long, global = true, default_value = "A")]
    pub name: String,
    /// How often each scenario runs on each target; the table shows medians
    #[arg(long, global = true, default_value = "1")]
    pub rounds: NonZeroU32,
    /// Rounds before those, not counted
    #[arg(long, global = true, default_value_t = 0)]
    pub warmup_rounds: u32,
    /// Print JSON instead of a table
    #[arg(long, global = true)]
    pub json: bool,
    /// Leave the topics there instead of deleting them
    #[arg(long, global = true)]
    pub keep_topics: bool,
    #[command(flatten)]
    pub traffic: Traffic,
    #[command(subcommand)]
    pub scenario: Scenario,
}

/// How records are sent and read, wherever that matters.
#[derive(Clone, Debug, Args)]
pub struct Traffic {
    /// Length of a value, bytes
    #[arg(long, global = true, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=64 << 20))]
    pub size: u32,
    /// Partitions of each topic
    #[arg(long, global = true, default_value = "4")]
    pub partitions: NonZeroU32,
    #[arg(long, global = true, default_value = "all")]
    pub acks: String,
    /// How long the client gathers records for a batch
    #[arg(long, global = true, default_value_t = 5.0)]
    pub linger_ms: f64,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, global = true, default_value = "none")]
    pub codec: String,
    /// A librdkafka setting for every client, NAME=VALUE; may be repeated
    #[arg(long = "set", global = true, value_parser = parse_setting)]
    pub settings: Vec<(String, String)>,
    /// The same for consumers alone; may be repeated
    #[arg(long = "consumer-set", global = true, value_parser = parse_setting)]
    pub consumer_settings: Vec<(String, String)>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Scenario {
    /// Throughput in: a new topic, as fast as it is acknowledged
    Produce(Load),
    /// Throughput out: a topic that is filled first, from offset 0 to its end
    Consume {
        #[command(flatten)]
        load: Load,
        #[command(flatten)]
        reading: Reading,
    },
    /// At a fixed rate: from when a record was due until it is acknowledged, and until it is read
    Latency(Pace),
    /// produce, consume (the same topic) and latency, one after the other
    All {
        #[command(flatten)]
        load: Load,
        #[command(flatten)]
        reading: Reading,
        #[command(flatten)]
        pace: Pace,
    },
    /// The time to create a topic, one after the other
    CreateTopics {
        /// How many
        #[arg(long, default_value = "50")]
        count: NonZeroU32,
    },
    /// Connections that asked once for the API versions and then stay silent: time to open them, memory, and whether the broker
    /// still answers. Needs a limit of open files (ulimit -n) above their number
    IdleConnections {
        /// How many
        #[arg(long, default_value = "10000")]
        count: NonZeroU32,
        /// Being opened at the same time
        #[arg(long, default_value = "100")]
        parallel: NonZeroU32,
    },
    /// One producer on one connection with five requests of one record in flight: requests per second
    Serial {
        #[arg(long, default_value = "5")]
        seconds: NonZeroU32,
        /// Requests in flight
        #[arg(long, default_value = "5")]
        in_flight: NonZeroU32,
    },
}

#[derive(Clone, Copy, Debug, Args)]
pub struct Load {
    /// Records to send [default: as many as --bytes holds]
    #[arg(long)]
    pub records: Option<NonZeroU64>,
    /// Bytes of values to send, if --records is not given; k, m and g stand for 2^10, 2^20 and 2^30
    #[arg(long, default_value = "1g", value_parser = parse_bytes)]
    pub bytes: u64,
}

impl Load {
    /// Records of `size` bytes to send; at least one.
    #[must_use]
    pub fn records(&self, size: u32) -> u64 {
        self.records.map_or_else(|| (self.bytes / u64::from(size)).max(1), NonZeroU64::get)
    }
}

#[derive(Clone, Copy, Debug, Args)]
pub struct Reading {
    /// How often the topic is read, each time by a new consumer
    #[arg(long, default_value = "3")]
    pub passes: NonZeroU32,
}

#[derive(Clone, Copy, Debug, Args)]
pub struct Pace {
    /// Records per second
    #[arg(long, default_value = "500")]
    pub rate: NonZeroU32,
    /// Measured seconds
    #[arg(long, default_value = "20")]
    pub seconds: NonZeroU32,
    /// Seconds before those, not counted
    #[arg(long, default_value_t = 3)]
    pub warmup_seconds: u32,
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let shift = match lower.chars().last() {
        Some('k') => 10,
        Some('m') => 20,
        Some('g') => 30,
        Some(_) | None => 0,
    };
    let digits = if shift > 0 { &lower[..lower.len() - 1] } else { &lower };
    let number: u64 = digits.parse().map_err(|_| "it must be a number of bytes such as 512m".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "it is too much".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_bytes("3k"), Ok(3072));
        assert_eq!(parse_bytes("1G"), Ok(1 << 30));
        assert_eq!(parse_bytes("17"), Ok(17));
        for bad in ["", "k", "-1", "1t", "99999999999999g"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_load_is_counted_in_records() {
        let load = |arguments: &[&str]| {
            let options = Options::parse_from([&["bench", "produce"], arguments].concat());
            let Scenario::Produce(load) = options.scenario else { panic!("another scenario") };
            load.records(options.traffic.size)
        };
        assert_eq!(load(&[]), 1 << 20);
        assert_eq!(load(&["--bytes", "1m", "--size", "100"]), 10_485);
        assert_eq!(load(&["--records", "7", "--bytes", "1g"]), 7);
    }

    #[test]
    fn common_options_may_stand_behind_the_scenario() {
        let options =
            Options::parse_from(["bench", "latency", "--pid", "yaks=12", "--pid", "13", "--versus", "h:1,pid=k=14", "--set", "a=b"]);
        assert_eq!(options.processes.len(), 2);
        assert_eq!(options.traffic.settings, [("a".to_owned(), "b".to_owned())]);
        assert!(options.versus.is_some());
    }
}

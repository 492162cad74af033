//! The oracle's command line.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use super::history::Promise;

/// Sends records to a Kafka broker, reads every log back, and says whether anything was lost, invented, repeated,
/// changed or moved.
///
/// Prints `OK: N records verified across P partitions from K producers` and exits with 0, or names each broken invariant
/// with examples and exits with 1. Exits with 2 if the arguments cannot be used or no verdict could be reached (no
/// broker, no record acknowledged, no journal).
#[derive(Clone, Debug, Parser)]
#[command(name = "oracle", version)]
pub struct Options {
    /// Brokers to begin with: HOST:PORT[,HOST:PORT...]
    #[arg(long, default_value = "localhost:9092")]
    pub brokers: String,
    /// Topics to make, named `<topic-prefix>-<run>-<n>`
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub topics: u32,
    /// Partitions of each topic
    #[arg(long, default_value = "1")]
    pub partitions: NonZeroU32,
    /// Producers, each with an order of its own
    #[arg(long, default_value = "100")]
    pub producers: NonZeroU32,
    /// Records of each producer [default: 100, or no limit with --duration]
    #[arg(long)]
    pub records: Option<u64>,
    /// Send for this long (30s, 10m, 2h), until --records is reached
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Records per second of all producers together [default: as fast as they are taken]
    #[arg(long)]
    pub rate: Option<NonZeroU32>,
    #[arg(long, default_value = "oracle-topic")]
    pub topic_prefix: String,
    /// Give up reading when nothing new has come for this long
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub consume_timeout: Duration,
    /// Where `journal-<run>.sqlite` is written [default: a new directory for temporary files, removed if all is well]
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Payloads and choices depend on this alone [default: random, printed]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Records of one producer that wait for their acknowledgement
    #[arg(long, default_value = "10")]
    pub in_flight: NonZeroUsize,
    /// Whether producers are idempotent; mixed: every second client
    #[arg(long, value_enum, default_value_t = Idempotent::Mixed)]
    pub idempotent: Idempotent,
    /// Compression; mixed: each client another one
    #[arg(long, value_enum, default_value_t = Codec::Mixed)]
    pub codec: Codec,
    /// all, 1 or 0; below all no producer is idempotent, with 0 nothing is promised
    #[arg(long, value_enum, default_value_t = Acks::All)]
    pub acks: Acks,
    /// Mean length of a value, bytes
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(..=64 << 20))]
    pub record_size: u32,
    /// Clients (librdkafka instances) that the producers share; each producer always uses the same one
    #[arg(long, default_value = "20")]
    pub clients: NonZeroU32,
    /// Consumers that start in the middle of a log
    #[arg(long, default_value_t = 4)]
    pub mid_starts: u32,
    /// Members of a consumer group that together read everything once more; 0: no group
    #[arg(long, default_value_t = 0)]
    pub group_members: u32,
    /// Members of a consumer group that reads everything while it is being sent; 0: no such group
    #[arg(long, default_value_t = 0)]
    pub live_members: u32,
    /// A librdkafka setting for every client, NAME=VALUE; may be repeated
    #[arg(long = "set", value_parser = parse_setting)]
    pub settings: Vec<(String, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Idempotent {
    True,
    False,
    Mixed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
    Mixed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Acks {
    #[value(alias = "-1")]
    All,
    #[value(name = "1")]
    One,
    #[value(name = "0")]
    None,
}

impl Acks {
    /// As librdkafka writes it.
    #[must_use]
    pub fn setting(self) -> &'static str {
        match self {
            Acks::All => "all",
            Acks::One => "1",
            Acks::None => "0",
        }
    }
}

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

impl Options {
    /// Records each producer sends at most.
    #[must_use]
    pub fn records_per_producer(&self) -> u64 {
        self.records.unwrap_or(if self.duration.is_some() { u64::MAX } else { 100 })
    }

    /// What contradicts itself, in words for the user.
    ///
    /// # Errors
    /// The contradiction.
    pub fn validate(&self) -> Result<(), String> {
        if self.idempotent == Idempotent::True && self.acks != Acks::All {
            return Err("--idempotent true needs --acks all".to_owned());
        }
        crate::types::TopicName::parse(&self.topic_name(0, 0)).map(|_| ()).map_err(|e| format!("--topic-prefix: {e}"))
    }

    #[must_use]
    pub fn topic_name(&self, run: u64, number: u32) -> String {
        format!("{}-{run:016x}-{number}", self.topic_prefix)
    }

    /// How many clients the producers share.
    #[must_use]
    pub fn client_count(&self) -> u32 {
        self.clients.min(self.producers).get()
    }

    /// The codec of one client.
    #[must_use]
    pub fn codec_of(&self, client: u32) -> &'static str {
        match self.codec {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
            // Two clients in a row share a codec, one of them idempotent.
            Codec::Mixed => CODECS[(client / 2) as usize % CODECS.len()],
        }
    }

    /// What one client's producers are promised.
    #[must_use]
    pub fn promise_of(&self, client: u32) -> Promise {
        let idempotent = match self.idempotent {
            Idempotent::True => true,
            Idempotent::False => false,
            Idempotent::Mixed => client.is_multiple_of(2),
        };
        if idempotent && self.acks == Acks::All {
            return Promise::Idempotent;
        }
        let in_flight = self.settings.iter().rev().find(|(name, _)| name.starts_with("max.in.flight"));
        if in_flight.is_none_or(|(_, value)| value == "1") { Promise::Sequential } else { Promise::Pipelined }
    }
}

/// Reads `NAME=VALUE`.
///
/// # Errors
/// What is missing, in words for the user.
pub fn parse_setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it must be NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// Reads `500ms`, `60s`, `10m`, `2h`; a bare number is seconds.
///
/// # Errors
/// What is allowed, in words for the user.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let millis: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("unknown unit {unit:?}; use ms, s, m or h")),
    };
    let number: u64 = number.parse().map_err(|_| "it must begin with a number".to_owned())?;
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(|| "it is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let options = Options::parse_from(["oracle"]);
        assert_eq!(options.brokers, "localhost:9092");
        assert_eq!((options.topics, options.partitions.get(), options.producers.get()), (1, 1, 100));
        assert_eq!((options.records_per_producer(), options.topic_prefix.as_str()), (100, "oracle-topic"));
        assert_eq!(options.consume_timeout, Duration::from_mins(1));
        assert!(options.validate().is_ok());
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_hours(2)));
        for bad in ["", "s", "1d", "-1s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mixed_clients_cover_every_codec_with_both_promises() {
        let options = Options::parse_from(["oracle"]);
        let mut seen: Vec<_> = (0..10).map(|c| (options.codec_of(c), options.promise_of(c))).collect();
        seen.dedup();
        assert_eq!(seen.len(), 10);
    }

    #[test]
    fn several_requests_in_flight_without_idempotence_promise_no_order() {
        let options = Options::parse_from(["oracle", "--idempotent", "false", "--set", "max.in.flight=5"]);
        assert_eq!(options.promise_of(0), Promise::Pipelined);
        assert!(Options::parse_from(["oracle", "--idempotent", "true", "--acks", "1"]).validate().is_err());
        assert!(Options::parse_from(["oracle", "--topic-prefix", "a b"]).validate().is_err());
    }
}

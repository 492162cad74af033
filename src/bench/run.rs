//! Runs the scenarios, round by round, alternating between the targets.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::Instant;

use super::clients::BenchError;
use super::options::{Load, Options, Pace, Reading, Scenario};
use super::process::{self, Work};
use super::report::{Figure, Report};
use super::target::Target;
use super::topics::Topics;
use super::{connections, consume, latency, produce};

/// Measures what `options` ask for. Says on standard error what it is doing. Needs tokio's multi-thread runtime, because
/// it works with blocking clients.
///
/// # Errors
/// Something could not be measured.
pub async fn run(options: &Options) -> Result<Report, BenchError> {
    let targets = Target::all(options);
    let mut report = Report::new(targets.iter().map(|t| t.name.clone()).collect());
    for round in 0..options.warmup_rounds + options.rounds.get() {
        let counts = round >= options.warmup_rounds;
        let mut sessions: Vec<Session<'_>> = targets.iter().map(|target| Session::new(options, target)).collect();
        for step in steps(&options.scenario) {
            for (number, session) in sessions.iter_mut().enumerate() {
                let warmup = if counts { "" } else { " (warm-up)" };
                eprintln!("round {}{warmup}: {} on {}", round + 1, step.name(), session.target.name);
                let figures = session.measure(&step).await?;
                if counts {
                    report.add(step.name(), number, figures);
                }
            }
        }
        for session in sessions {
            session.close().await?;
        }
    }
    Ok(report)
}

/// One thing to measure.
#[derive(Clone, Copy, Debug)]
enum Step {
    Produce(Load),
    Consume(Load, Reading),
    Latency(Pace),
    CreateTopics(NonZeroU32),
    IdleConnections { count: NonZeroU32, parallel: NonZeroU32 },
    Serial { seconds: NonZeroU32, in_flight: NonZeroU32 },
}

impl Step {
    fn name(&self) -> &'static str {
        match self {
            Step::Produce(_) => "produce",
            Step::Consume(..) => "consume",
            Step::Latency(_) => "latency",
            Step::CreateTopics(_) => "create-topics",
            Step::IdleConnections { .. } => "idle-connections",
            Step::Serial { .. } => "serial",
        }
    }
}

fn steps(scenario: &Scenario) -> Vec<Step> {
    match *scenario {
        Scenario::Produce(load) => vec![Step::Produce(load)],
        Scenario::Consume { load, reading } => vec![Step::Consume(load, reading)],
        Scenario::Latency(pace) => vec![Step::Latency(pace)],
        Scenario::All { load, reading, pace } => vec![Step::Produce(load), Step::Consume(load, reading), Step::Latency(pace)],
        Scenario::CreateTopics { count } => vec![Step::CreateTopics(count)],
        Scenario::IdleConnections { count, parallel } => vec![Step::IdleConnections { count, parallel }],
        Scenario::Serial { seconds, in_flight } => vec![Step::Serial { seconds, in_flight }],
    }
}

/// One round on one target.
struct Session<'a> {
    options: &'a Options,
    target: &'a Target,
    topics: Option<Topics>,
    /// To be deleted at the end of the round.
    made: Vec<String>,
    /// The topic that was filled, for those who read.
    filled: Option<String>,
}

impl<'a> Session<'a> {
    fn new(options: &'a Options, target: &'a Target) -> Session<'a> {
        Session { options, target, topics: None, made: Vec::new(), filled: None }
    }

    async fn measure(&mut self, step: &Step) -> Result<Vec<Figure>, BenchError> {
        match *step {
            Step::Produce(load) => self.produce(load).await,
            Step::Consume(load, reading) => self.consume(load, reading).await,
            Step::Latency(pace) => {
                let topic = self.new_topic().await?;
                self.costed(|target, options| latency::latency(target, &options.traffic, &topic, pace), |s| Work::Seconds(s.as_secs_f64()))
            }
            Step::CreateTopics(count) => {
                let (figures, names) = self.topics()?.measure(count.get()).await?;
                self.made.extend(names);
                Ok(figures)
            }
            Step::IdleConnections { count, parallel } => connections::idle_connections(self.target, count.get(), parallel.get()).await,
            Step::Serial { seconds, in_flight } => {
                let topic = self.topics()?.create(1).await?;
                self.made.push(topic.clone());
                let duration = Duration::from_secs(seconds.get().into());
                block_in_place(|| produce::serial(self.target, &self.options.traffic, &topic, in_flight, duration))
            }
        }
    }

    async fn produce(&mut self, load: Load) -> Result<Vec<Figure>, BenchError> {
        let topic = self.new_topic().await?;
        let records = load.records(self.options.traffic.size);
        self.filled = Some(topic.clone());
        let work = Work::Bytes(records * u64::from(self.options.traffic.size));
        self.costed(|target, options| produce::produce(target, &options.traffic, &topic, records), |_| work)
    }

    async fn consume(&mut self, load: Load, reading: Reading) -> Result<Vec<Figure>, BenchError> {
        if self.filled.is_none() {
            self.produce(load).await?;
        }
        let topic = self.filled.clone().unwrap_or_default();
        let records = load.records(self.options.traffic.size);
        let work = Work::Bytes(records * u64::from(self.options.traffic.size));
        let mut figures = Vec::new();
        for _ in 0..reading.passes.get() {
            figures.extend(self.costed(|target, options| consume::consume(target, &options.traffic, &topic, records), |_| work)?);
        }
        Ok(figures)
    }

    /// Does `scenario` and adds what it cost the target's processes, in relation to the work it took.
    fn costed(
        &self,
        scenario: impl FnOnce(&Target, &Options) -> Result<Vec<Figure>, BenchError>,
        work: impl FnOnce(Duration) -> Work,
    ) -> Result<Vec<Figure>, BenchError> {
        let usage = || process::usage(&self.target.processes).map_err(BenchError::Process);
        let (before, start) = (usage()?, Instant::now());
        let mut figures = block_in_place(|| scenario(self.target, self.options))?;
        figures.extend(process::cost(&before, &usage()?, work(start.elapsed())));
        Ok(figures)
    }

    fn topics(&mut self) -> Result<&Topics, BenchError> {
        let topics = match self.topics.take() {
            Some(topics) => topics,
            None => block_in_place(|| Topics::open(self.target, &self.options.traffic))?,
        };
        Ok(self.topics.insert(topics))
    }

    async fn new_topic(&mut self) -> Result<String, BenchError> {
        let topic = self.topics()?.create_for_traffic().await?;
        self.made.push(topic.clone());
        Ok(topic)
    }

    async fn close(mut self) -> Result<(), BenchError> {
        let made = std::mem::take(&mut self.made);
        if !made.is_empty() && !self.options.keep_topics {
            self.topics()?.delete(&made).await;
        }
        Ok(())
    }
}

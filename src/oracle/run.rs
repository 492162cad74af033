//! One run, from the command line to the verdict.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rdkafka::error::{KafkaError, KafkaResult};
use tokio::task::block_in_place;

use super::check::check;
use super::group::Group;
use super::history::{Attempt, GroupRead, History, LogRead, Outcome};
use super::journal::{self, JournalError};
use super::options::Options;
use super::pauses::Pause;
use super::produce::Sending;
use super::report::Report;
use super::workload::{RunId, Workload};
use super::{client, consume, produce};
use crate::clock::{Clock as _, Ids as _, RandomIds, SystemClock};
use crate::types::TopicName;

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("no broker answers at {0}: {1}")]
    NoBroker(String, String),
    #[error("topic {0} cannot be made: {1}")]
    Topic(String, String),
    #[error("no record was acknowledged or found, so there is nothing to judge")]
    NothingToJudge,
    #[error("the data directory {0}: {1}")]
    Directory(PathBuf, std::io::Error),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the client: {0}")]
    Client(#[from] KafkaError),
    #[error("a producer broke: {0}")]
    Broken(String),
}

/// What a run came to.
#[derive(Debug)]
pub struct Run {
    pub report: Report,
    /// Errors that producers were given in the end, in the client's words, and how often.
    pub complaints: BTreeMap<String, u64>,
    /// The longest time without an acknowledgement of each producer, the longest first.
    pub producer_pauses: Vec<Pause>,
    /// The longest time without anything new for the live group of each log while producers sent, the longest first.
    pub log_pauses: Vec<Pause>,
}

/// Does what `options` ask for and judges it. Says on standard error what it is doing. Needs tokio's multi-thread
/// runtime, because it reads with blocking clients.
///
/// # Errors
/// No verdict could be reached.
pub async fn run(options: &Options) -> Result<Run, Failure> {
    options.validate().map_err(Failure::Usage)?;
    let workload = Arc::new(workload(options)?);
    let directory = Directory::open(options, workload.run)?;
    eprintln!("run {:016x}, seed {}, journal {}", workload.run.0, workload.seed, directory.journal.display());
    let topics: Vec<String> = workload.topics.iter().map(|t| t.as_str().to_owned()).collect();
    client::create_topics(options, &topics).await?;
    let live = (options.live_members > 0).then(|| Group::start(options, &workload, "live", options.live_members)).transpose()?;
    let (attempts, sending) = send(options, &workload, &directory.journal).await?;
    let (history, log_pauses) = block_in_place(|| read(options, &workload, attempts, live))?;
    let report = check(&history);
    let run = Run { report, complaints: sending.complaints, producer_pauses: sending.pauses.longest(), log_pauses };
    eprintln!("{}", details(&run));
    if run.report.is_ok() {
        directory.remove_if_temporary();
        if run.report.verified == 0 {
            return Err(Failure::NothingToJudge);
        }
    }
    Ok(run)
}

fn workload(options: &Options) -> Result<Workload, Failure> {
    let ids = RandomIds::from_system();
    let run = RunId(ids.below(u64::MAX));
    let topics: Result<Vec<TopicName>, String> = (0..options.topics).map(|n| TopicName::parse(&options.topic_name(run.0, n))).collect();
    Ok(Workload {
        run,
        seed: options.seed.unwrap_or_else(|| ids.below(1 << 32)),
        topics: topics.map_err(Failure::Usage)?,
        partitions: options.partitions,
        record_size: options.record_size as usize,
        start: SystemClock.now(),
    })
}

async fn send(options: &Options, workload: &Arc<Workload>, file: &Path) -> Result<(Vec<Attempt>, Sending), Failure> {
    let run = [
        ("run", format!("{:016x}", workload.run.0)),
        ("seed", workload.seed.to_string()),
        ("start", workload.start.0.to_string()),
        ("options", format!("{options:?}")),
    ];
    let (journal, writer) = journal::open(file, &run).await?;
    match produce::send_all(options, workload, journal).await {
        Ok(sending) => Ok((writer.finish().await?, sending)),
        // The writer knows why it closed.
        Err(Failure::Journal(JournalError::Closed)) => Err(writer.finish().await.err().unwrap_or(JournalError::Closed).into()),
        Err(failure) => Err(failure),
    }
}

fn read(options: &Options, workload: &Arc<Workload>, attempts: Vec<Attempt>, live: Option<Group>) -> KafkaResult<(History, Vec<Pause>)> {
    let expected = attempts.iter().filter(|a| matches!(a.outcome, Outcome::Acked { .. })).count() as u64;
    let logs = consume::read_logs(options, workload, expected)?;
    let partial_reads = consume::read_from_the_middle(options, workload, &logs)?;
    let (mut group_reads, pauses) = live.map(|group| group.finish(&logs)).transpose()?.unwrap_or_default();
    group_reads.extend(read_as_group(options, workload, &logs)?);
    Ok((History { attempts, logs, partial_reads, group_reads }, pauses))
}

/// Reads all `logs` once more, as a group of `group_members`.
fn read_as_group(options: &Options, workload: &Arc<Workload>, logs: &[LogRead]) -> KafkaResult<Vec<GroupRead>> {
    if options.group_members == 0 {
        return Ok(Vec::new());
    }
    let (reads, _) = Group::start(options, workload, "grouped", options.group_members)?.finish(logs)?;
    Ok(reads)
}

fn details(run: &Run) -> String {
    let Report { unknown_found, unknown_absent, failed, repeats, .. } = &run.report;
    let mut lines: Vec<String> =
        run.complaints.iter().map(|(error, count)| format!("{count} records were not acknowledged: {error}")).collect();
    for (what, pauses) in [("a producer", &run.producer_pauses), ("a log of the live group", &run.log_pauses)] {
        lines.extend(pauses.first().map(|longest| format!("longest pause of {what}: {longest}")));
    }
    let unknown = unknown_found + unknown_absent;
    lines.push(format!("outcome unknown: {unknown} ({unknown_found} found); refused: {failed}; repeats where they are allowed: {repeats}"));
    lines.join("\n")
}

struct Directory {
    path: PathBuf,
    journal: PathBuf,
    temporary: bool,
}

impl Directory {
    fn open(options: &Options, run: RunId) -> Result<Directory, Failure> {
        let path = options.data_dir.clone().unwrap_or_else(|| std::env::temp_dir().join(format!("yaks-oracle-{:016x}", run.0)));
        std::fs::create_dir_all(&path).map_err(|e| Failure::Directory(path.clone(), e))?;
        let journal = path.join(format!("journal-{:016x}.sqlite", run.0));
        Ok(Directory { path, journal, temporary: options.data_dir.is_none() })
    }

    fn remove_if_temporary(&self) {
        if self.temporary
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("{} stays: {error}", self.path.display());
        }
    }
}

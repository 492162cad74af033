//! The oracle as load and as judge.

use std::time::Duration;

use clap::Parser as _;
use tokio::task::JoinHandle;
use yaks::oracle::{Options, Pause, Run, run};

use super::support::LONG;
use super::{say, wait};

/// Where a test says nothing else.
const USUAL: [(&str, &str); 9] = [
    // A client that gives a record up begins a new epoch, and what it sends again then is not known as a repeat: that is the client's own doing. None is to
    // give up, however slow the machine is.
    ("--set", "message.timeout.ms=900000"),
    ("--topics", "2"),
    ("--partitions", "6"),
    ("--producers", "12"),
    ("--clients", "6"),
    ("--rate", "360"),
    ("--live-members", "3"),
    ("--mid-starts", "4"),
    ("--record-size", "300"),
];

/// A run of the oracle under way.
pub struct Load {
    run: JoinHandle<Run>,
    directory: tempfile::TempDir,
}

impl Load {
    /// Producers of both promises and every codec for `time`, and a group of three that reads meanwhile.
    pub fn start(bootstrap: &str, time: Duration, more: &[&str]) -> Load {
        let directory = tempfile::Builder::new().prefix("yaks-oracle").tempdir().expect("a directory");
        let duration = format!("{}ms", time.as_millis());
        let path = directory.path().to_string_lossy().into_owned();
        let usual = USUAL.into_iter().filter(|(name, _)| *name == "--set" || !more.contains(name)).flat_map(|(name, value)| [name, value]);
        let own = ["--brokers", bootstrap, "--duration", &duration, "--data-dir", &path];
        let arguments = ["oracle"].into_iter().chain(usual).chain(own).chain(more.iter().copied());
        let options = Options::try_parse_from(arguments).expect("options");
        let run = tokio::spawn(async move { run(&options).await.expect("a verdict") });
        Load { run, directory }
    }

    /// Until its topics are there and it sends: how it starts in an outage is not what is tested.
    pub async fn begun(&self) {
        let has_journal = || {
            let mut files = std::fs::read_dir(self.directory.path()).expect("a directory");
            files.any(|file| file.expect("a file").file_name().to_string_lossy().starts_with("journal-"))
        };
        let begun = async {
            while !has_journal() && !self.run.is_finished() {
                wait(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LONG, begun).await.expect("the oracle begins");
    }

    /// The verdict, printed; it must be a good one.
    pub async fn judge(self) -> Run {
        let run = self.run.await.expect("no panic");
        say(&run.report.to_string());
        let (unknown, found) = (run.report.unknown_found + run.report.unknown_absent, run.report.unknown_found);
        say(&format!("outcome unknown: {unknown} ({found} of them found), repeats where they are allowed: {}", run.report.repeats));
        for (error, count) in &run.complaints {
            say(&format!("{count} records were not acknowledged: {error}"));
        }
        say(&format!("longest pause of a producer: {}", shown(run.producer_pauses.first())));
        say(&format!("longest pause of a log for its consumers: {}", shown(run.log_pauses.first())));
        assert!(run.report.is_ok(), "{}", run.report);
        run
    }
}

fn shown(pause: Option<&Pause>) -> String {
    pause.map_or_else(|| "none".to_owned(), Pause::to_string)
}

/// The longest time in which anybody waited.
pub fn longest(run: &Run) -> Duration {
    let longest = |pauses: &[Pause]| pauses.first().map(|pause| pause.length).unwrap_or_default();
    longest(&run.producer_pauses).max(longest(&run.log_pauses))
}

//! How far a run is: a bar on a terminal, a line now and then elsewhere. Both go to standard error.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

/// Between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Counts records of one stage of a run.
#[derive(Debug)]
pub(super) struct Progress {
    stage: &'static str,
    total: Option<u64>,
    done: AtomicU64,
    bar: Option<ProgressBar>,
    last_line: Mutex<Instant>,
}

impl Progress {
    /// `total`: how many records are expected, where that is known.
    pub(super) fn new(stage: &'static str, total: Option<u64>) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| bar(stage, total));
        Progress { stage, total, done: AtomicU64::new(0), bar, last_line: Mutex::new(Instant::now()) }
    }

    pub(super) fn advance(&self, records: u64) {
        self.done.fetch_add(records, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.inc(records);
            return;
        }
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= LINE_INTERVAL {
            *last = Instant::now();
            self.print();
        }
    }

    /// Ends the stage; says how many records it came to.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.print();
    }

    fn print(&self) {
        let of = self.total.map_or_else(String::new, |total| format!(" of {total}"));
        eprintln!("{} {}{of} records", self.stage, self.done.load(Ordering::Relaxed));
    }
}

fn bar(stage: &'static str, total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{msg:>9} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}"),
        None => (ProgressBar::new_spinner(), "{msg:>9} {spinner} {human_pos} {per_sec} {elapsed}"),
    };
    // A template that cannot be read leaves the default style, which serves.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style).with_message(stage)
}

//! What happened when, in simulated time: the proof that a seed can be replayed, and the story of one that failed.

use std::fmt::{self, Display};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// The lines of one run.
#[derive(Debug)]
pub(crate) struct Trace {
    start: Instant,
    lines: Mutex<Vec<String>>,
}

impl Trace {
    pub(crate) fn new(start: Instant) -> Trace {
        Trace { start, lines: Mutex::default() }
    }

    pub(crate) fn note(&self, who: impl Display, what: impl Display) {
        let line = format!("{:>9.3} {who}: {what}", self.start.elapsed().as_secs_f64());
        tracing::info!(target: "sim", "{who}: {what}");
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Prints simulated seconds in front of log lines.
#[derive(Debug)]
struct SimTime(Instant);

impl FormatTime for SimTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{:>9.3}", self.0.elapsed().as_secs_f64())
    }
}

/// Prints everything that this thread logs until the guard is dropped.
pub(crate) fn print_logs(start: Instant) -> tracing::subscriber::DefaultGuard {
    let filter = std::env::var("YAKS_LOG").unwrap_or_else(|_| "debug,opentelemetry=off,opentelemetry_sdk=off".to_owned());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_timer(SimTime(start))
        .with_ansi(false)
        .with_writer(std::io::stdout)
        .finish();
    tracing::subscriber::set_default(subscriber)
}

/// The first line in which two traces differ, with some lines before it.
pub(crate) fn first_difference(a: &[String], b: &[String]) -> Option<String> {
    let at = (0..a.len().max(b.len())).find(|i| a.get(*i) != b.get(*i))?;
    let before = a[at.saturating_sub(10)..at.min(a.len())].join("\n");
    Some(format!("line {at}:\n{before}\n< {}\n> {}", a.get(at).map_or("", |l| l), b.get(at).map_or("", |l| l)))
}
